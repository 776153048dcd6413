//! An Avro schema as nodes. Names are resolved; whatever is not told (documentation, order, properties) is gone.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::logical::Logical;
use crate::Fault;

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) shape: Shape,
    pub(super) logical: Logical,
}

/// What is encoded. Other types are named by their numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed { name: String, size: usize },
    Enum { name: String, symbols: Vec<String>, default: Option<String> },
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record { name: String, fields: Vec<RecordField> },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RecordField {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) has_default: bool,
    pub(super) node: usize,
}

impl Shape {
    /// As it is called in a schema.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Fixed { name, .. } | Self::Enum { name, .. } | Self::Record { name, .. } => name,
        }
    }

    fn primitive(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::String,
            _ => return None,
        })
    }
}

/// The nodes of a schema that `apache-avro` took, and which of them is the root.
pub(super) fn build(json: &Value) -> Result<(Vec<Node>, usize), Fault> {
    let mut builder = Builder::default();
    let root = builder.node(json, "")?;
    Ok((builder.nodes, root))
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    named: BTreeMap<String, usize>,
}

impl Builder {
    fn push(&mut self, shape: Shape, logical: Logical) -> usize {
        self.nodes.push(Node { shape, logical });
        self.nodes.len() - 1
    }

    fn node(&mut self, json: &Value, namespace: &str) -> Result<usize, Fault> {
        match json {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let nodes = branches.iter().map(|branch| self.node(branch, namespace)).collect::<Result<_, _>>()?;
                Ok(self.push(Shape::Union(nodes), Logical::None))
            }
            Value::Object(members) => self.complex(members, namespace),
            _ => Err(Fault::here("a type is a name, a list of types or an object")),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Result<usize, Fault> {
        if let Some(shape) = Shape::primitive(name) {
            return Ok(self.push(shape, Logical::None));
        }
        let full = qualified(name, namespace);
        let found = self.named.get(&full).or_else(|| self.named.get(name));
        found.copied().ok_or_else(|| Fault::here(format!("the type {name} is not defined before it is used")))
    }

    fn complex(&mut self, members: &Map<String, Value>, namespace: &str) -> Result<usize, Fault> {
        let kind = members.get("type").ok_or_else(|| Fault::here("a type's kind is missing"))?;
        let Value::String(kind) = kind else { return self.node(kind, namespace) };
        let of = |name: &str| members.get(name).ok_or_else(|| Fault::at(format!("/{name}"), "it is missing"));
        let shape = match kind.as_str() {
            "record" | "error" => return self.record(members, namespace),
            "enum" => {
                let symbols = of("symbols")?.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
                let default = members.get("default").and_then(Value::as_str).map(str::to_owned);
                Shape::Enum { name: full_name(members, namespace), symbols, default }
            }
            "fixed" => {
                let size = of("size")?.as_u64().and_then(|size| usize::try_from(size).ok()).ok_or_else(|| Fault::at("/size", "no size"))?;
                Shape::Fixed { name: full_name(members, namespace), size }
            }
            "array" => Shape::Array(self.node(of("items")?, namespace)?),
            "map" => Shape::Map(self.node(of("values")?, namespace)?),
            plain => match Shape::primitive(plain) {
                Some(shape) => shape,
                None => return self.by_name(plain, namespace),
            },
        };
        let logical = Logical::of(members, &shape);
        let name = matches!(shape, Shape::Enum { .. } | Shape::Fixed { .. }).then(|| shape.name().to_owned());
        let node = self.push(shape, logical);
        self.named.extend(name.map(|name| (name, node)));
        Ok(node)
    }

    fn record(&mut self, members: &Map<String, Value>, namespace: &str) -> Result<usize, Fault> {
        let name = full_name(members, namespace);
        let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        // Its fields may name it.
        let node = self.push(Shape::Record { name: name.clone(), fields: Vec::new() }, Logical::None);
        self.named.insert(name.clone(), node);
        let mut fields = Vec::new();
        for field in members.get("fields").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| field.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let kind = field.get("type").ok_or_else(|| Fault::here("a field has no type"))?;
            let aliases = field.get("aliases").and_then(Value::as_array).into_iter().flatten();
            let node = self.node(kind, &inner).map_err(|fault| fault.inside(text("name")))?;
            fields.push(RecordField {
                name: text("name"),
                aliases: aliases.filter_map(Value::as_str).map(str::to_owned).collect(),
                has_default: field.get("default").is_some(),
                node,
            });
        }
        self.nodes[node].shape = Shape::Record { name, fields };
        Ok(node)
    }
}

fn full_name(members: &Map<String, Value>, namespace: &str) -> String {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    qualified(text("name").unwrap_or_default(), text("namespace").unwrap_or(namespace))
}

fn qualified(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
