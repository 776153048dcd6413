//! JSON Schema: draft 4 to 2020-12, as `$schema` says. Formats are not asserted, and patterns are those that can be matched in
//! linear time.

mod columns;
mod compare;
mod refs;

use arrow_schema::Fields;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

pub(crate) use self::compare::unreadable;
use crate::Fault;

/// An understood JSON Schema.
#[derive(Debug)]
pub(crate) struct JsonSchema {
    text: Value,
    validator: Validator,
}

impl JsonSchema {
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let text: Value = serde_json::from_str(text).map_err(|e| Fault::here(format!("the schema is not JSON: {e}")))?;
        if !(text.is_object() || text.is_boolean()) {
            return Err(Fault::here("a JSON Schema is an object, or true or false"));
        }
        refs::check(&text)?;
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(PatternOptions::regex())
            .build(&text)
            .map_err(|error| Fault::at(error.instance_path().to_string(), error.to_string()))?;
        Ok(Self { text, validator })
    }

    pub(crate) fn check(&self, value: &[u8]) -> Result<(), Fault> {
        let value: Value = serde_json::from_slice(value).map_err(|e| Fault::here(format!("the value is not JSON: {e}")))?;
        // Masked: what is wrong may be large.
        let fault = |error: jsonschema::ValidationError<'_>| Fault::at(error.instance_path().to_string(), error.masked().to_string());
        self.validator.validate(&value).map_err(fault)
    }

    pub(crate) fn columns(&self) -> Fields {
        columns::of(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        JsonSchema::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_value_is_refused_with_the_place_and_the_reason() {
        let schema = JsonSchema::parse(
            r##"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"items":{"type":"array","items":{"$ref":"#/$defs/item"}}},
                "$defs":{"item":{"type":"object","properties":{"price":{"type":"number","minimum":0}}}}}"##,
        )
        .unwrap();
        schema.check(br#"{"id":1,"items":[{"price":2.5}],"more":true}"#).unwrap();
        let fault = schema.check(br#"{"id":1,"items":[{"price":1},{"price":-1}]}"#).unwrap_err();
        assert_eq!(fault.pointer, "/items/1/price");
        assert!(fault.reason.contains("minimum"), "{fault}");
        assert!(schema.check(b"{}").unwrap_err().reason.contains("required"));
        for broken in [&b"{"[..], b"", b"\xff", b"1 2"] {
            assert!(schema.check(broken).unwrap_err().reason.starts_with("the value is not JSON"));
        }
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        assert!(refused("{").starts_with("the schema is not JSON"));
        assert!(refused("[]").contains("an object"));
        assert!(refused(r#"{"type":"strange"}"#).contains("strange"));
        assert!(refused(r#"{"properties":{"a":{"minimum":"x"}}}"#).starts_with("/properties/a/minimum"));
        assert!(refused(r#"{"pattern":"("}"#).contains("pattern"));
    }

    #[test]
    fn nothing_outside_of_the_text_is_read() {
        for elsewhere in ["http://example.com/s.json", "file:///etc/passwd", "other.json#/a", "https://localhost:1/x"] {
            let text = serde_json::json!({"properties": {"a": {"$ref": elsewhere}}}).to_string();
            assert!(JsonSchema::parse(&text).is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn patterns_that_could_take_for_ever_are_refused() {
        assert!(JsonSchema::parse(r#"{"pattern":"^(?=a)b"}"#).is_err());
        let slow = JsonSchema::parse(r#"{"pattern":"^(a+)+$"}"#).unwrap();
        let value = format!("\"{}!\"", "a".repeat(100_000));
        assert!(slow.check(value.as_bytes()).is_err());
    }

    #[test]
    fn a_reference_that_leads_to_itself_is_refused_and_one_that_goes_down_is_not() {
        for text in [
            r##"{"$ref":"#"}"##,
            r##"{"allOf":[{"$ref":"#"}]}"##,
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"$ref":"#/$defs/a"}}}"##,
            r##"{"properties":{"x":{"not":{"$ref":"#/properties/x"}}}}"##,
        ] {
            assert!(refused(text).contains("itself"), "{text}");
        }
        let tree = JsonSchema::parse(r##"{"type":"object","properties":{"next":{"$ref":"#"}}}"##).unwrap();
        tree.check(br#"{"next":{"next":{}}}"#).unwrap();
        assert_eq!(tree.check(br#"{"next":{"next":3}}"#).unwrap_err().pointer, "/next/next");
    }

    #[test]
    fn a_value_nested_without_end_is_refused_and_its_quote_is_short() {
        let schema = JsonSchema::parse(r##"{"items":{"$ref":"#"}}"##).unwrap();
        let deep = "[".repeat(100_000);
        assert!(schema.check(deep.as_bytes()).is_err());
        let number = JsonSchema::parse(r#"{"type":"integer"}"#).unwrap();
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        assert!(number.check(long.as_bytes()).unwrap_err().reason.len() < 500);
    }
}
