//! The columns of a JSON Schema's values. Where the schema leaves open what stands in a place, the column is text: it takes any
//! JSON, as what is no string stands there as its text.

use std::collections::BTreeSet;

use arrow_schema::{DataType, Fields};
use serde_json::{Map, Value};

use super::refs::resolve;
use crate::DEEPEST;
use crate::columns::{Budget, list, nullable, structure, wider};

/// Keywords that tell of a value's columns.
const SHAPE: [&str; 8] = ["type", "properties", "enum", "const", "$ref", "allOf", "anyOf", "oneOf"];
/// Schemas looked at; beyond, what is left is text.
const STEPS: usize = 10_000;

pub(super) fn of(root: &Value) -> Fields {
    let mut walk = Walk { root, open: Vec::new(), budget: Budget::default(), steps: 0 };
    match walk.column(root, 0) {
        DataType::Struct(fields) => fields,
        _ => Fields::empty(),
    }
}

struct Walk<'s> {
    root: &'s Value,
    /// The references that are being followed: one that is met again inside of itself is text.
    open: Vec<*const Value>,
    budget: Budget,
    steps: usize,
}

impl<'s> Walk<'s> {
    fn column(&mut self, schema: &'s Value, depth: usize) -> DataType {
        self.steps += 1;
        let Value::Object(members) = schema else { return DataType::Utf8 };
        if depth > DEEPEST / 2 || self.steps > STEPS {
            return DataType::Utf8;
        }
        if let Some(named) = members.get("$ref").and_then(Value::as_str) {
            let Some(schema) = resolve(self.root, named) else { return DataType::Utf8 };
            if std::ptr::eq(schema, self.root) || self.open.contains(&std::ptr::from_ref(schema)) {
                return DataType::Utf8;
            }
            self.open.push(std::ptr::from_ref(schema));
            let column = self.column(schema, depth + 1);
            self.open.pop();
            return column;
        }
        let mut branches = self.branches(members);
        if branches.is_empty() {
            return self.plain(members, depth);
        }
        if members.contains_key("properties") || members.contains_key("type") && !is_only_object(members) {
            let own = self.plain(members, depth);
            return branches.into_iter().fold(own, |column, branch| wider(&column, &self.column(branch, depth + 1)));
        }
        let first = self.column(branches.remove(0), depth + 1);
        branches.into_iter().fold(first, |column, branch| wider(&column, &self.column(branch, depth + 1)))
    }

    /// What else is told of the value's columns: all together are those of the value. Null is no type of its own.
    fn branches(&self, members: &'s Map<String, Value>) -> Vec<&'s Value> {
        let each = |name: &str| members.get(name).and_then(Value::as_array).into_iter().flatten();
        let is_null = |schema: &&Value| schema.get("type").is_some_and(|kind| kind == "null") || schema.get("const") == Some(&Value::Null);
        let tells = |schema: &&Value| SHAPE.iter().any(|keyword| schema.get(keyword).is_some());
        each("allOf").chain(each("anyOf")).chain(each("oneOf")).filter(|schema| tells(schema) && !is_null(schema)).collect()
    }

    fn plain(&mut self, members: &'s Map<String, Value>, depth: usize) -> DataType {
        let kinds = kinds(members);
        let is = |of: &[&str]| !kinds.is_empty() && kinds.iter().all(|kind| of.contains(kind));
        if is(&["boolean"]) {
            DataType::Boolean
        } else if is(&["integer"]) {
            DataType::Int64
        } else if is(&["integer", "number"]) {
            DataType::Float64
        } else if is(&["array"]) {
            self.array(members, depth)
        } else if is(&["object"]) || (kinds.is_empty() && members.contains_key("properties")) {
            self.object(members, depth)
        } else {
            DataType::Utf8
        }
    }

    fn array(&mut self, members: &'s Map<String, Value>, depth: usize) -> DataType {
        let tuple = members.contains_key("prefixItems") || members.get("items").is_some_and(Value::is_array);
        match members.get("items").filter(|items| items.is_object() && !tuple) {
            Some(items) if self.budget.take() => list(self.column(items, depth + 1)),
            _ => DataType::Utf8,
        }
    }

    fn object(&mut self, members: &'s Map<String, Value>, depth: usize) -> DataType {
        let named = members.get("properties").and_then(Value::as_object).into_iter().flatten();
        let fields = self.budget.of(named.filter(|(_, schema)| **schema != Value::Bool(false)));
        structure(fields.into_iter().map(|(name, schema)| nullable(name, self.column(schema, depth + 1))).collect())
    }
}

fn is_only_object(members: &Map<String, Value>) -> bool {
    members.get("type").is_some_and(|kind| kind == "object")
}

/// The types that a value may have but null; empty where that is open.
fn kinds(members: &Map<String, Value>) -> BTreeSet<&str> {
    let told: Vec<&str> = match members.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => match (members.get("const"), members.get("enum")) {
            (Some(value), _) => vec![kind_of(value)],
            (None, Some(Value::Array(values))) => values.iter().map(kind_of).collect(),
            _ => Vec::new(),
        },
    };
    told.into_iter().filter(|kind| *kind != "null").collect()
}

/// A value's type in JSON Schema.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::FieldRef;
    use serde_json::json;

    use super::*;
    use crate::columns::MOST_COLUMNS;

    fn shown(schema: &Value) -> String {
        let shown = |field: &FieldRef| format!("{}: {}", field.name(), field.data_type());
        of(schema).iter().map(shown).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn each_type_has_its_column_and_what_is_open_is_text() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "boolean"}, "b": {"type": ["integer", "null"]}, "c": {"type": ["integer", "number"]}, "d": {"type": "string"},
            "e": {}, "f": {"type": ["integer", "string"]}, "g": {"enum": [1, 2, null]}, "h": {"const": "x"}, "i": true, "j": false,
            "k": {"type": "array", "items": {"type": "number"}}, "l": {"type": "array"}, "m": {"type": "object"},
        }});
        let expected = "a: Boolean; b: Int64; c: Float64; d: Utf8; e: Utf8; f: Utf8; g: Int64; h: Utf8; i: Utf8; \
            k: List(Float64, field: 'element'); l: Utf8; m: Utf8";
        assert_eq!(shown(&schema), expected);
    }

    #[test]
    fn references_and_branches_are_looked_into() {
        let schema = json!({
            "properties": {"at": {"$ref": "#/$defs/point"}, "n": {"anyOf": [{"type": "null"}, {"type": "integer"}]}},
            "allOf": [{"properties": {"more": {"type": "integer"}}}, {"properties": {"more": {"type": "number"}}}],
            "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}}},
        });
        assert_eq!(shown(&schema), "at: Struct(\"x\": Float64, \"y\": Float64); n: Int64; more: Float64");
    }

    #[test]
    fn schemas_without_end_have_columns_with_an_end() {
        let list = json!({"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#"}, "other": {"$ref": "#"}}});
        assert_eq!(shown(&list), "next: Utf8; other: Utf8; v: Int64");
        let many: Map<String, Value> = (0..5_000).map(|n| (format!("p{n}"), json!({"type": "integer"}))).collect();
        assert_eq!(of(&json!({"type": "object", "properties": many})).len(), MOST_COLUMNS);
        assert_eq!(of(&json!({"type": "string"})).len(), 0);
    }
}
