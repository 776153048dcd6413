//! The table's columns with their ids. An id names a column for ever: a column that is there keeps its own, a new one gets the
//! next. The files have no ids in them, so the table has a mapping from names.
//!
//! Iceberg widens int to long and float to double, and nothing else. A column whose type changed otherwise is left out, from then
//! on: older files hold what readers would not take for the new type.

use std::collections::BTreeSet;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use serde_json::{Value, json};

/// The struct of typed columns.
const DATA: &str = "data";

/// Columns and what is known of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TableFields {
    /// As Iceberg's `fields`.
    pub(super) fields: Vec<Value>,
    /// The highest id given.
    pub(super) last_id: i64,
    /// Paths of columns that are left out.
    pub(super) left_out: BTreeSet<String>,
}

/// The columns that every file has, with their ids: of `data`, its own is 12.
fn base() -> (Vec<Value>, i64) {
    let field = |id: i64, name: &str, kind: Value, required: bool| json!({"id": id, "name": name, "required": required, "type": kind});
    let header = json!({"type": "struct", "fields": [field(9, "name", json!("string"), true), field(10, "value", json!("binary"), false)]});
    let headers = json!({"type": "list", "element-id": 8, "element-required": true, "element": header});
    let fields = vec![
        field(1, "partition", json!("int"), true),
        field(2, "offset", json!("long"), true),
        field(3, "timestamp", json!("timestamptz"), true),
        field(4, "appended_at", json!("timestamptz"), true),
        field(5, "key", json!("binary"), false),
        field(6, "value", json!("binary"), false),
        field(7, "headers", headers, true),
        field(11, "json", json!("boolean"), true),
    ];
    (fields, 11)
}

impl TableFields {
    /// A table that has no typed columns yet.
    pub(super) fn new() -> Self {
        let (fields, last_id) = base();
        Self { fields, last_id, left_out: BTreeSet::new() }
    }

    /// With the typed columns that files have now. Those that no file has any more stay: older files may have them.
    pub(super) fn with(mut self, columns: Option<&Fields>) -> Self {
        let Some(columns) = columns.filter(|columns| !columns.is_empty()) else { return self };
        let at = match self.fields.iter().position(|field| field["name"] == DATA) {
            Some(at) => at,
            None => {
                self.last_id += 1;
                let none: Vec<Value> = Vec::new();
                self.fields.push(json!({"id": self.last_id, "name": DATA, "required": false, "type": {"type": "struct", "fields": none}}));
                self.fields.len() - 1
            }
        };
        let mut data = self.fields[at]["type"].take();
        self.merge_struct(&mut data, columns, DATA);
        if data["fields"].as_array().is_none_or(Vec::is_empty) {
            self.fields.remove(at);
        } else {
            self.fields[at]["type"] = data;
        }
        self
    }

    fn merge_struct(&mut self, known: &mut Value, columns: &Fields, path: &str) {
        let mut fields = known["fields"].as_array().cloned().unwrap_or_default();
        for column in columns {
            let path = format!("{path}.{}", column.name());
            if self.left_out.contains(&path) {
                continue;
            }
            match fields.iter().position(|field| field["name"] == column.name().as_str()) {
                Some(at) => {
                    let mut kind = fields[at]["type"].take();
                    if self.merge(&mut kind, column.data_type(), &path) {
                        fields[at]["type"] = kind;
                    } else {
                        fields.remove(at);
                        self.left_out.insert(path);
                    }
                }
                None => fields.extend(self.fresh(column, &path)),
            }
        }
        known["fields"] = fields.into();
    }

    /// Whether the column's type, now, is one that the known one may become; then `known` is it.
    fn merge(&mut self, known: &mut Value, now: &DataType, path: &str) -> bool {
        match now {
            DataType::Struct(columns) if known["type"] == "struct" => {
                self.merge_struct(known, columns, path);
                known["fields"].as_array().is_some_and(|fields| !fields.is_empty())
            }
            DataType::List(element) if known["type"] == "list" => {
                let mut inner = known["element"].take();
                let merged = self.merge(&mut inner, element.data_type(), &format!("{path}.element"));
                known["element"] = inner;
                merged
            }
            _ => match (known.as_str(), plain(now)) {
                (Some(before), Some(now)) if before == now => true,
                (Some("int"), Some("long")) | (Some("float"), Some("double")) => {
                    *known = plain(now).into();
                    true
                }
                // Older files have the wider type: readers widen the narrower.
                (Some("long"), Some("int")) | (Some("double"), Some("float")) => true,
                _ => false,
            },
        }
    }

    /// A column that is new, or nothing where Iceberg has no type for it.
    fn fresh(&mut self, column: &Field, path: &str) -> Option<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let kind = self.fresh_type(column.data_type(), path)?;
        Some(json!({"id": id, "name": column.name(), "required": false, "type": kind}))
    }

    fn fresh_type(&mut self, data_type: &DataType, path: &str) -> Option<Value> {
        match data_type {
            DataType::Struct(columns) => {
                let fields: Vec<Value> =
                    columns.iter().filter_map(|column| self.fresh(column, &format!("{path}.{}", column.name()))).collect();
                (!fields.is_empty()).then(|| json!({"type": "struct", "fields": fields}))
            }
            DataType::List(element) => {
                self.last_id += 1;
                let id = self.last_id;
                let kind = self.fresh_type(element.data_type(), path)?;
                Some(json!({"type": "list", "element-id": id, "element-required": false, "element": kind}))
            }
            plain_type => plain(plain_type).map(Value::from),
        }
    }

    /// Names to ids, for files without ids: `schema.name-mapping.default`.
    pub(super) fn name_mapping(&self) -> String {
        Value::from(self.fields.iter().map(mapped).collect::<Vec<_>>()).to_string()
    }
}

fn plain(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => "int",
        DataType::Int64 | DataType::UInt32 => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 => "string",
        DataType::Binary => "binary",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, Some(_)) => "timestamptz",
        DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, None) => "timestamp",
        _ => return None,
    })
}

fn mapped(field: &Value) -> Value {
    let mut mapping = json!({"field-id": field["id"], "names": [field["name"]]});
    let inner = mapped_type(&field["type"]);
    if !inner.is_empty() {
        mapping["fields"] = inner.into();
    }
    mapping
}

fn mapped_type(kind: &Value) -> Vec<Value> {
    match kind["type"].as_str() {
        Some("struct") => kind["fields"].as_array().into_iter().flatten().map(mapped).collect(),
        Some("list") => vec![mapped(&json!({"id": kind["element-id"], "name": "element", "type": kind["element"]}))],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn columns(of: &[(&str, DataType)]) -> Fields {
        of.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect()
    }

    /// Paths of the typed columns with id and type.
    fn typed(table: &TableFields) -> Vec<String> {
        let data = table.fields.iter().find(|field| field["name"] == DATA).unwrap();
        let shown = |field: &Value| {
            format!(
                "{}={} {}",
                field["name"].as_str().unwrap(),
                field["id"],
                field["type"]["type"].as_str().or(field["type"].as_str()).unwrap()
            )
        };
        data["type"]["fields"].as_array().unwrap().iter().map(shown).collect()
    }

    #[test]
    fn ids_stay_and_new_columns_get_new_ones() {
        let first = TableFields::new().with(Some(&columns(&[("a", DataType::Int32), ("b", DataType::Utf8)])));
        assert_eq!(typed(&first), ["a=13 int", "b=14 string"]);
        let point = DataType::Struct(columns(&[("x", DataType::Float32)]));
        let list = DataType::List(Arc::new(Field::new("element", point, true)));
        let second = first.clone().with(Some(&columns(&[("c", list), ("b", DataType::Utf8), ("a", DataType::Int64)])));
        assert_eq!(typed(&second), ["a=13 long", "b=14 string", "c=15 list"]);
        assert_eq!(second.last_id, 17);
        assert_eq!(second.clone().with(Some(&columns(&[("b", DataType::Utf8)]))), second, "what is missing stays");
        assert_eq!(second.clone().with(None), second);
    }

    #[test]
    fn a_column_that_becomes_something_else_is_left_out_for_good() {
        let first = TableFields::new().with(Some(&columns(&[("a", DataType::Int64), ("b", DataType::Utf8)])));
        let second = first.with(Some(&columns(&[("a", DataType::Utf8), ("b", DataType::Utf8)])));
        assert_eq!(typed(&second), ["b=14 string"]);
        assert_eq!(second.left_out, BTreeSet::from(["data.a".to_owned()]));
        assert_eq!(typed(&second.with(Some(&columns(&[("a", DataType::Int64)])))), ["b=14 string"]);
    }

    #[test]
    fn a_table_without_typed_columns_has_none() {
        let table = TableFields::new().with(Some(&Fields::empty()));
        assert_eq!((table.fields.len(), table.last_id), (8, 11));
        let mapping: Value = serde_json::from_str(&table.name_mapping()).unwrap();
        assert_eq!(mapping[6]["fields"][0]["fields"][1], json!({"field-id": 10, "names": ["value"]}));
    }
}
