//! The key `learner`: a name, or a table with a name and parameters.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value as Json};
use toml::de::DeValue;

use super::setting::{Setting, Wrong, quoted, wrong_type};
use crate::learner::Spec;

/// A learner with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Learner(pub Spec);

/// They have no order.
impl PartialOrd for Learner {
    fn partial_cmp(&self, other: &Learner) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Setting for Learner {
    type Plain = Learner;

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let json = match value {
            DeValue::String(name) => Json::Object(Map::from_iter([(
                "name".to_owned(),
                Json::String(name.to_string()),
            )])),
            DeValue::Table(_) => to_json(value)?,
            _ => return Err(wrong_type(value)),
        };
        let spec: Spec =
            serde_json::from_value(json).map_err(|error| Wrong::Value(error.to_string()))?;
        spec.check().map_err(Wrong::Value)?;
        Ok(Learner(spec))
    }

    fn write(&self) -> Option<String> {
        serde_json::to_value(&self.0)
            .ok()
            .map(|json| to_toml(&json))
    }

    fn expected() -> String {
        "a learner such as \"aimd\" or { name = \"step\", rate = 0.25 }".into()
    }

    fn example() -> String {
        "\"aimd\"".into()
    }

    fn plain(&self) -> Option<&Self> {
        Some(self)
    }
}

/// Learners are described by serde; this is the bridge.
fn to_json(value: &DeValue<'_>) -> Result<Json, Wrong> {
    let number = |text: String| {
        let parsed: Option<f64> = text.parse().ok();
        parsed
            .and_then(Number::from_f64)
            .map(Json::Number)
            .ok_or_else(|| Wrong::Value(format!("{text} is no number")))
    };
    Ok(match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Boolean(value) => Json::Bool(*value),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Json::from(integer),
            Err(_) => number(integer.as_str().to_owned())?,
        },
        DeValue::Float(float) => number(float.as_str().to_owned())?,
        DeValue::Array(items) => Json::Array(
            items
                .iter()
                .map(|item| to_json(item.get_ref()))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => {
            let mut map = Map::new();
            for (key, value) in table {
                map.insert(key.get_ref().to_string(), to_json(value.get_ref())?);
            }
            Json::Object(map)
        }
        DeValue::Datetime(_) => return Err(wrong_type(value)),
    })
}

fn to_toml(json: &Json) -> String {
    match json {
        Json::String(text) => quoted(text),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(to_toml).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(map) => {
            // TOML has no null: what is unset is left out.
            let entries = map.iter().filter(|(_, value)| !value.is_null());
            let entries: Vec<String> = entries
                .map(|(key, value)| format!("{key} = {}", to_toml(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}
