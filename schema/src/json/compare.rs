//! Whether one JSON Schema takes every value of another. Sound, not complete: what is not understood is taken for a difference,
//! so nothing is let pass that is not known to fit. One thing is taken for granted: that a writer does not send a property
//! that its schema does not name, unless the schema says of what kind those are (`additionalProperties`).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::JsonSchema;
use super::columns::kind_of;
use super::refs::resolve;
use crate::{DEEPEST, Fault};

/// Pairs looked at; two schemas that take more are called too different.
const STEPS: usize = 50_000;
/// Faults told; nobody reads more.
const MOST_FAULTS: usize = 20;
/// What a reader may ask for only in the writer's own words: comparing them is beyond this comparison.
const SAME_WORDS: [&str; 17] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "pattern",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
    "additionalItems",
];
/// Bounds: the keyword, and whether a larger one is stricter.
const BOUNDS: [(&str, bool); 10] = [
    ("minimum", true),
    ("exclusiveMinimum", true),
    ("maximum", false),
    ("exclusiveMaximum", false),
    ("minLength", true),
    ("maxLength", false),
    ("minItems", true),
    ("maxItems", false),
    ("minProperties", true),
    ("maxProperties", false),
];
/// `true` in other words.
static ANYTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

/// What of `writer`'s values `reader` does not take.
pub(crate) fn unreadable(writer: &JsonSchema, reader: &JsonSchema) -> Vec<Fault> {
    let mut compare = Compare { writer: &writer.text, reader: &reader.text, assumed: Vec::new(), steps: 0 };
    compare.fits(&writer.text, &reader.text, 0)
}

/// A pair of schemas, the writer's and the reader's, by where they are.
type Pair = (*const Value, *const Value);
type Members = Map<String, Value>;

struct Compare<'s> {
    writer: &'s Value,
    reader: &'s Value,
    /// Pairs that are being compared, or were found to fit: where they are met again, they are taken to.
    assumed: Vec<Pair>,
    steps: usize,
}

impl<'s> Compare<'s> {
    /// Why values of `w` do not fit `r`; empty if they do.
    fn fits(&mut self, w: &'s Value, r: &'s Value, depth: usize) -> Vec<Fault> {
        let pair = (std::ptr::from_ref(w), std::ptr::from_ref(r));
        if *w == Value::Bool(false) || *r == Value::Bool(true) || self.assumed.contains(&pair) {
            return Vec::new();
        }
        self.steps += 1;
        if self.steps > STEPS || depth > 2 * DEEPEST {
            return one("", "the schemas are too large to be compared");
        }
        let since = self.assumed.len();
        self.assumed.push(pair);
        let w = if *w == Value::Bool(true) { &*ANYTHING } else { w };
        let mut faults = match (w, r) {
            (Value::Object(of_w), Value::Object(of_r)) => self.fits_all(of_w, of_r, w, depth),
            _ => one("", "nothing is allowed here any more"),
        };
        if !faults.is_empty() {
            // What was found to fit may have been so only because this pair was taken to.
            self.assumed.truncate(since);
            faults.truncate(MOST_FAULTS);
        }
        faults
    }

    /// All that the reader asks for, one after the other.
    fn fits_all(&mut self, of_w: &'s Members, of_r: &'s Members, w: &'s Value, depth: usize) -> Vec<Fault> {
        let mut faults = self.fits_plain(of_w, of_r, depth);
        if let Some(named) = of_r.get("$ref").and_then(Value::as_str) {
            faults.extend(match resolve(self.reader, named) {
                Some(r) => self.fits(w, r, depth + 1),
                None => one("/$ref", format!("{named} cannot be followed")),
            });
        }
        for branch in list_of(of_r, "allOf") {
            faults.extend(self.fits(w, branch, depth + 1));
        }
        if of_r.contains_key("anyOf") && !self.fits_any(of_w, w, list_of(of_r, "anyOf"), depth) {
            faults.extend(one("/anyOf", "no branch takes all that may come"));
        }
        if of_r.contains_key("oneOf") && !self.fits_one(of_w, w, list_of(of_r, "oneOf"), depth) {
            faults.extend(one("/oneOf", "what may come does not fit one branch only"));
        }
        faults
    }

    fn fits_any(&mut self, of_w: &'s Members, w: &'s Value, branches: &'s [Value], depth: usize) -> bool {
        let mut takes = |w: &'s Value| branches.iter().any(|r| self.fits(w, r, depth + 1).is_empty());
        takes(w) || ["anyOf", "oneOf"].iter().any(|k| of_w.contains_key(*k) && list_of(of_w, k).iter().all(&mut takes))
    }

    fn fits_one(&mut self, of_w: &'s Members, w: &'s Value, branches: &'s [Value], depth: usize) -> bool {
        let of_writer = list_of(of_w, "oneOf");
        let mut takes = |w: &'s Value| {
            let found = branches.iter().position(|r| self.fits(w, r, depth + 1).is_empty());
            let apart = |(at, r): (usize, &'s Value)| Some(at) == found || self.apart(w, r) || self.is_others(w, r, of_writer);
            found.is_some() && branches.iter().enumerate().all(apart)
        };
        takes(w) || (!of_writer.is_empty() && of_writer.iter().all(takes))
    }

    /// Whether what `r` takes is what another branch of the writer's takes: no value of `w` is among it.
    fn is_others(&self, w: &Value, r: &Value, of_writer: &[Value]) -> bool {
        of_writer.iter().any(|other| !std::ptr::eq(other, w) && self.same_words(other, r))
    }

    /// Whether no value fits both: of other types, or told apart by a property.
    fn apart(&self, w: &Value, r: &Value) -> bool {
        let (Some(w), Some(r)) = (followed(self.writer, w), followed(self.reader, r)) else { return false };
        if let (Some(of_w), Some(of_r)) = (kinds(w), kinds(r))
            && of_w.iter().all(|kind| !(of_r.contains(kind) || is_number(kind) && of_r.iter().any(|k| is_number(k))))
        {
            return true;
        }
        let required: BTreeSet<&str> = required(w).intersection(&required(r)).copied().collect();
        required.into_iter().any(|name| {
            let value = |of: &'_ Members| {
                of.get("properties")?
                    .get(name)?
                    .as_object()
                    .and_then(|schema| values(schema).map(|v| v.into_iter().cloned().collect::<Vec<_>>()))
            };
            matches!((value(w), value(r)), (Some(of_w), Some(of_r)) if of_w.iter().all(|v| !of_r.contains(v)))
        })
    }

    /// What the reader asks for without branches and references, against what is known of the writer's values.
    fn fits_plain(&mut self, of_w: &'s Members, of_r: &'s Members, depth: usize) -> Vec<Fault> {
        let own = self.plain(of_w, of_r, depth);
        if own.is_empty() {
            return own;
        }
        if let Some(named) = of_w.get("$ref").and_then(Value::as_str) {
            let Some(w) = resolve(self.writer, named) else { return one("/$ref", format!("{named} cannot be followed")) };
            return self.branch_fits(w, of_r, depth);
        }
        if list_of(of_w, "allOf").iter().any(|branch| self.branch_fits(branch, of_r, depth).is_empty()) {
            return Vec::new();
        }
        for keyword in ["anyOf", "oneOf"] {
            let branches = list_of(of_w, keyword);
            let faults: Vec<Fault> = branches.iter().flat_map(|branch| self.branch_fits(branch, of_r, depth)).collect();
            if !branches.is_empty() && (faults.is_empty() || !of_w.contains_key("type")) {
                return faults;
            }
        }
        own
    }

    fn branch_fits(&mut self, branch: &'s Value, of_r: &'s Members, depth: usize) -> Vec<Fault> {
        self.steps += 1;
        match branch {
            _ if self.steps > STEPS || depth > 2 * DEEPEST => one("", "the schemas are too large to be compared"),
            Value::Bool(false) => Vec::new(),
            Value::Object(of_w) => self.fits_plain(of_w, of_r, depth + 1),
            _ => self.plain(ANYTHING.as_object().unwrap_or(of_r), of_r, depth + 1),
        }
    }

    fn plain(&mut self, w: &'s Members, r: &'s Members, depth: usize) -> Vec<Fault> {
        let mut faults = Vec::new();
        let may = kinds(w);
        if let Some(taken) = kinds(r).filter(|_| r.contains_key("type")) {
            let missing = |kind: &&str| !(taken.contains(*kind) || *kind == "integer" && taken.contains("number"));
            match &may {
                None => faults.extend(one("/type", "values of any type may come")),
                Some(may) => {
                    faults
                        .extend(may.iter().filter(|k| missing(k)).flat_map(|kind| one("/type", format!("values of type {kind} may come"))));
                }
            }
        }
        if let Some(taken) = values(r) {
            match values(w) {
                None => faults.extend(one("/enum", "other values than these may come")),
                Some(may) => {
                    faults.extend(may.iter().filter(|v| !taken.contains(v)).flat_map(|v| one("/enum", format!("the value {v} may come"))));
                }
            }
        }
        let may_be = |kind: &str| may.as_ref().is_none_or(|may| may.contains(kind));
        self.words(w, r, &mut faults);
        bounds(w, r, &may_be, &mut faults);
        if may_be("array") {
            self.items(w, r, depth, &mut faults);
        }
        if may_be("object") {
            self.properties(w, r, depth, &mut faults);
        }
        faults
    }

    /// What is compared as it is written.
    fn words(&self, w: &Members, r: &Members, faults: &mut Vec<Fault>) {
        for keyword in SAME_WORDS.iter().filter(|keyword| r.contains_key(**keyword)) {
            if !matches!((w.get(*keyword), r.get(*keyword)), (Some(w), Some(r)) if self.same_words(w, r)) {
                faults.extend(one(
                    &format!("/{keyword}"),
                    format!("{keyword} is new or changed: whether all that may come fits is not known"),
                ));
            }
        }
    }

    /// Whether both say the same. References do only where all that they may lead to is the same.
    fn same_words(&self, w: &Value, r: &Value) -> bool {
        w == r && (self.writer == self.reader || !has_reference(w))
    }

    fn items(&mut self, w: &'s Members, r: &'s Members, depth: usize, faults: &mut Vec<Fault>) {
        let is_tuple = |of: &Members| of.contains_key("prefixItems") || of.get("items").is_some_and(Value::is_array);
        if is_tuple(w) || is_tuple(r) {
            for keyword in ["prefixItems", "items"].into_iter().filter(|keyword| r.contains_key(*keyword)) {
                if !matches!((w.get(keyword), r.get(keyword)), (Some(w), Some(r)) if self.same_words(w, r)) {
                    faults.extend(one(&format!("/{keyword}"), "items by their places changed"));
                }
            }
            return;
        }
        if let Some(taken) = r.get("items") {
            let may_come = w.get("items").unwrap_or(&ANYTHING);
            faults.extend(self.fits(may_come, taken, depth + 1).into_iter().map(|fault| fault.inside("items")));
        }
    }

    fn properties(&mut self, w: &'s Members, r: &'s Members, depth: usize, faults: &mut Vec<Fault>) {
        static NONE: LazyLock<Members> = LazyLock::new(Map::new);
        let named = |of: &'s Members| of.get("properties").and_then(Value::as_object).unwrap_or(&NONE);
        let (of_w, of_r) = (named(w), named(r));
        let always = required(w);
        for name in required(r).difference(&always) {
            faults.extend(one("/required", format!("{name} is required, and may be missing")));
        }
        for (name, taken) in of_r {
            let may_come = match (of_w.get(name), w.get("additionalProperties")) {
                (Some(schema), _) | (None, Some(schema @ (Value::Object(_) | Value::Bool(false)))) => schema,
                // Sent by nobody.
                (None, _) if !always.contains(name.as_str()) => continue,
                (None, _) => &ANYTHING,
            };
            faults.extend(self.fits(may_come, taken, depth + 1).into_iter().map(|fault| fault.inside(name).inside("properties")));
        }
        let Some(others) = r.get("additionalProperties").filter(|others| **others != Value::Bool(true)) else { return };
        for (name, may_come) in of_w.iter().filter(|(name, _)| !of_r.contains_key(*name)) {
            faults.extend(match others {
                Value::Bool(false) if *may_come != Value::Bool(false) => {
                    one("/additionalProperties", format!("{name} is not allowed, and may come"))
                }
                others => self.fits(may_come, others, depth + 1).into_iter().map(|f| f.inside(name).inside("properties")).collect(),
            });
        }
        let may_come = w.get("additionalProperties").unwrap_or(&ANYTHING);
        faults.extend(self.fits(may_come, others, depth + 1).into_iter().map(|fault| fault.inside("additionalProperties")));
    }
}

fn one(pointer: &str, reason: impl Into<String>) -> Vec<Fault> {
    vec![Fault::at(pointer, reason)]
}

fn list_of<'s>(of: &'s Members, keyword: &str) -> &'s [Value] {
    of.get(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A schema's members, behind its reference if it is one.
fn followed<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Members> {
    let members = schema.as_object()?;
    match members.get("$ref").and_then(Value::as_str) {
        Some(named) => resolve(root, named)?.as_object().filter(|members| !members.contains_key("$ref")),
        None => Some(members),
    }
}

fn is_number(kind: &str) -> bool {
    matches!(kind, "integer" | "number")
}

/// The types that a value may have; `None` where that is open.
fn kinds(of: &Members) -> Option<BTreeSet<&str>> {
    match of.get("type") {
        Some(Value::String(kind)) => Some(BTreeSet::from([kind.as_str()])),
        Some(Value::Array(kinds)) => Some(kinds.iter().filter_map(Value::as_str).collect()),
        _ => values(of).map(|values| values.into_iter().map(kind_of).collect()),
    }
}

/// The values that are allowed, where they are told one by one.
fn values(of: &Members) -> Option<Vec<&Value>> {
    match (of.get("const"), of.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

fn required(of: &Members) -> BTreeSet<&str> {
    list_of(of, "required").iter().filter_map(Value::as_str).collect()
}

fn has_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.contains_key("$ref") || members.values().any(has_reference),
        Value::Array(items) => items.iter().any(has_reference),
        _ => false,
    }
}

fn bounds(w: &Members, r: &Members, may_be: &dyn Fn(&str) -> bool, faults: &mut Vec<Fault>) {
    for (keyword, larger_is_stricter) in BOUNDS {
        let Some(taken) = r.get(keyword).filter(|_| may_be_bound(keyword, may_be)) else { continue };
        let inclusive = if keyword.starts_with("exclusive") { None } else { exclusive(keyword).and_then(|k| w.get(k)) };
        let kept = [w.get(keyword), inclusive].into_iter().flatten().any(|given| match (given.as_f64(), taken.as_f64()) {
            (Some(given), Some(taken)) if larger_is_stricter => given >= taken,
            (Some(given), Some(taken)) => given <= taken,
            _ => given == taken,
        });
        if !kept {
            faults.extend(one(&format!("/{keyword}"), format!("{keyword} is {taken}, and values beyond it may come")));
        }
    }
    if r.get("uniqueItems") == Some(&Value::Bool(true)) && w.get("uniqueItems") != Some(&Value::Bool(true)) && may_be("array") {
        faults.extend(one("/uniqueItems", "items that occur twice may come"));
    }
    if let Some(taken) = r.get("multipleOf").filter(|_| may_be("integer") || may_be("number")) {
        let given = w.get("multipleOf");
        let is_multiple = |w: &Value, r: &Value| matches!((w.as_u64(), r.as_u64()), (Some(w), Some(r)) if r > 0 && w % r == 0);
        let only_whole = !may_be("number") && taken.as_u64() == Some(1);
        if !(only_whole || given.is_some_and(|given| given == taken || is_multiple(given, taken))) {
            faults.extend(one("/multipleOf", format!("numbers that are no multiple of {taken} may come")));
        }
    }
}

fn exclusive(keyword: &str) -> Option<&'static str> {
    match keyword {
        "minimum" => Some("exclusiveMinimum"),
        "maximum" => Some("exclusiveMaximum"),
        _ => None,
    }
}

/// Whether a bound says something of values of these types.
fn may_be_bound(keyword: &str, may_be: &dyn Fn(&str) -> bool) -> bool {
    match keyword {
        "minLength" | "maxLength" => may_be("string"),
        "minItems" | "maxItems" => may_be("array"),
        "minProperties" | "maxProperties" => may_be("object"),
        _ => may_be("integer") || may_be("number"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(writer: &Value, reader: &Value) -> Vec<String> {
        let parse = |schema: &Value| JsonSchema::parse(&schema.to_string()).unwrap();
        unreadable(&parse(writer), &parse(reader)).iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn fits(writer: &Value, reader: &Value) {
        assert_eq!(faults(writer, reader), Vec::<String>::new());
    }

    #[track_caller]
    fn differs(writer: &Value, reader: &Value, place: &str) {
        let found = faults(writer, reader);
        assert!(found.iter().any(|fault| fault.starts_with(place)), "{place}: {found:?}");
    }

    #[test]
    fn an_optional_property_may_be_added_and_a_required_one_may_not() {
        let old = json!({"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]});
        let optional = json!({"type": "object", "properties": {"id": {"type": "integer"}, "note": {"type": "string"}}, "required": ["id"]});
        let required =
            json!({"type": "object", "properties": {"id": {"type": "integer"}, "note": {"type": "string"}}, "required": ["id", "note"]});
        fits(&old, &optional);
        fits(&optional, &old);
        differs(&old, &required, "/required");
        fits(&required, &old);
    }

    #[test]
    fn types_and_enums_may_grow_for_readers_and_shrink_for_writers() {
        let of = |schema: Value| json!({"properties": {"a": schema}});
        fits(&of(json!({"type": "integer"})), &of(json!({"type": "number"})));
        differs(&of(json!({"type": "number"})), &of(json!({"type": "integer"})), "/properties/a/type");
        fits(&of(json!({"type": "string"})), &of(json!({"type": ["string", "null"]})));
        differs(&of(json!({"type": ["string", "null"]})), &of(json!({"type": "string"})), "/properties/a/type");
        fits(&of(json!({"enum": ["a"]})), &of(json!({"enum": ["a", "b"]})));
        differs(&of(json!({"enum": ["a", "b"]})), &of(json!({"enum": ["a"]})), "/properties/a/enum");
        fits(&of(json!({"const": 3})), &of(json!({"type": "integer"})));
        differs(&of(json!({})), &of(json!({"type": "string"})), "/properties/a/type");
    }

    #[test]
    fn a_closed_reader_takes_no_more_than_it_names() {
        let closed = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false});
        let wider = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "additionalProperties": false});
        let open = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
        fits(&closed, &wider);
        fits(&closed, &open);
        differs(&wider, &closed, "/additionalProperties");
        differs(&open, &closed, "/additionalProperties");
        let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
        differs(&texts, &json!({"type": "object", "properties": {"n": {"type": "integer"}}}), "/properties/n/type");
    }

    #[test]
    fn bounds_may_be_loosened_and_not_tightened() {
        for (loose, tight) in [
            (json!({"type": "integer", "minimum": 0}), json!({"type": "integer", "minimum": 5, "maximum": 7})),
            (json!({"type": "string", "maxLength": 10}), json!({"type": "string", "maxLength": 5})),
            (json!({"type": "array", "items": {"type": "number"}}), json!({"type": "array", "items": {"type": "integer"}, "minItems": 1})),
            (json!({"type": "integer", "multipleOf": 2}), json!({"type": "integer", "multipleOf": 4})),
            (json!({"type": "array"}), json!({"type": "array", "uniqueItems": true})),
            (json!({"type": "string"}), json!({"type": "string", "pattern": "^a"})),
            (json!({"type": "integer", "minimum": 1}), json!({"type": "integer", "exclusiveMinimum": 1})),
        ] {
            fits(&tight, &loose);
            fits(&tight, &tight);
            assert!(!faults(&loose, &tight).is_empty(), "{loose} {tight}");
        }
        fits(&json!({"type": "string"}), &json!({"type": "string", "minimum": 3}));
    }

    #[test]
    fn branches_are_compared_one_by_one() {
        let circle = json!({"type": "object", "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}}, "required": ["kind"]});
        let square = json!({"type": "object", "properties": {"kind": {"const": "square"}, "a": {"type": "number"}}, "required": ["kind"]});
        for keyword in ["anyOf", "oneOf"] {
            fits(&json!({keyword: [circle]}), &json!({keyword: [square, circle]}));
            fits(&circle, &json!({keyword: [square, circle]}));
            differs(&json!({keyword: [square, circle]}), &json!({keyword: [circle]}), &format!("/{keyword}"));
        }
        fits(&json!({"allOf": [circle, {"required": ["r"]}]}), &circle);
        differs(&circle, &json!({"allOf": [circle, {"required": ["r"]}]}), "/required");
        fits(&json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}), &json!({"type": ["number", "null"]}));
        let overlapping = json!({"oneOf": [{"type": "integer"}, {"type": "number"}]});
        differs(&json!({"type": "integer"}), &overlapping, "/oneOf");
    }

    #[test]
    fn references_are_followed_on_both_sides_and_circles_end() {
        let tree = |kind: &str| json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"v": {"type": kind}, "next": {"$ref": "#/$defs/n"}}}}});
        fits(&tree("integer"), &tree("number"));
        differs(&tree("number"), &tree("integer"), "/properties/v/type");
        fits(&tree("integer"), &json!({"type": "object", "properties": {"v": {"type": "integer"}}}));
    }

    #[test]
    fn what_is_not_understood_must_stay_as_it_is() {
        let not = json!({"type": "string", "not": {"const": "x"}});
        fits(&not, &not);
        fits(&not, &json!({"type": "string"}));
        differs(&json!({"type": "string"}), &not, "/not");
    }
}
