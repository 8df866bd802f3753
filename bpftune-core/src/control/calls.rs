//! From a message to a request.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};

use super::{DESCRIPTION, INTERFACE, Query, Request};

/// A message that is a call, if perhaps of nothing that there is.
pub(super) struct Parsed {
    pub(super) method: String,
    pub(super) oneway: bool,
    pub(super) more: bool,
    /// What is asked of the engine; or the answer, where that is known here.
    pub(super) request: Result<Request, Json>,
}

/// A reply that is an error.
pub(super) fn error(name: &str, parameters: Json) -> Json {
    json!({ "error": name, "parameters": parameters })
}

/// Reads a Varlink message; an error where it is none.
pub(super) fn varlink(message: &[u8]) -> Result<Parsed, ()> {
    #[derive(Deserialize)]
    struct Message {
        method: String,
        #[serde(default)]
        parameters: Option<Json>,
        #[serde(default)]
        oneway: bool,
        #[serde(default)]
        more: bool,
    }
    let Message {
        method,
        parameters,
        oneway,
        more,
    } = serde_json::from_slice(message).map_err(drop)?;
    let request = request(&method, parameters.unwrap_or_else(|| json!({})));
    Ok(Parsed {
        method,
        oneway,
        more,
        request,
    })
}

/// Reads a line of the classic query port.
pub(super) fn text(line: &[u8]) -> Parsed {
    let word = String::from_utf8_lossy(line).trim().to_owned();
    Parsed {
        request: Ok(Request::Query(Query::named(&word).unwrap_or(Query::Help))),
        method: word,
        oneway: false,
        more: false,
    }
}

/// An answer for people who asked on the classic query port.
pub(super) fn as_text(message: &Json) -> String {
    let parameters = &message["parameters"];
    match (message["error"].as_str(), parameters["text"].as_str()) {
        (None, Some(text)) => text.to_owned(),
        (None, None) => format!("{parameters}\n"),
        (Some(name), _) if name.ends_with(".PermissionDenied") => {
            "only root may do that through this port\n".to_owned()
        }
        (Some(_), _) => {
            let reason = parameters["reason"].as_str().unwrap_or("it failed");
            format!("{reason}\n")
        }
    }
}

fn request(method: &str, parameters: Json) -> Result<Request, Json> {
    let (interface, name) = method.rsplit_once('.').unwrap_or((method, ""));
    match (interface, name) {
        (INTERFACE, _) => ours(name, parameters)?.ok_or_else(|| {
            error(
                "org.varlink.service.MethodNotFound",
                json!({ "method": method }),
            )
        }),
        ("org.varlink.service", "GetInfo") => Err(json!({ "parameters": {
            "vendor": "bpftune", "product": "bpftune", "version": env!("CARGO_PKG_VERSION"),
            "url": env!("CARGO_PKG_NAME"), "interfaces": ["org.varlink.service", INTERFACE],
        } })),
        ("org.varlink.service", "GetInterfaceDescription") => {
            Err(match parameters["interface"].as_str() {
                Some(INTERFACE) => json!({ "parameters": { "description": DESCRIPTION } }),
                Some("org.varlink.service") => json!({ "parameters": { "description": SERVICE } }),
                other => error(
                    "org.varlink.service.InterfaceNotFound",
                    json!({ "interface": other }),
                ),
            })
        }
        ("org.varlink.service", _) => Err(error(
            "org.varlink.service.MethodNotFound",
            json!({ "method": method }),
        )),
        _ => Err(error(
            "org.varlink.service.InterfaceNotFound",
            json!({ "interface": interface }),
        )),
    }
}

/// The parameters of a call as `T`, or Varlink's error that names the wrong one.
fn typed<T: DeserializeOwned>(parameters: Json) -> Result<T, Json> {
    serde_json::from_value(parameters).map_err(|wrong| {
        error(
            "org.varlink.service.InvalidParameter",
            json!({ "parameter": wrong.to_string() }),
        )
    })
}

/// A call of our interface; `None` where there is no such method.
fn ours(name: &str, parameters: Json) -> Result<Option<Request>, Json> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct None {}
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Id {
        id: i64,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct IdReason {
        id: i64,
        reason: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Where {
        tunable: Option<String>,
        netns: Option<u64>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct MaybeId {
        id: Option<i64>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tuner {
        tuner: String,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct MaybeTuner {
        tuner: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct TunerSeconds {
        tuner: Option<String>,
        seconds: u32,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Word {
        query: Query,
    }
    Ok(Some(match name {
        "GetStatus" => typed(parameters).map(|None {}| Request::GetStatus)?,
        "ListTunables" => {
            typed(parameters).map(|MaybeTuner { tuner }| Request::ListTunables { tuner })?
        }
        "GetHistory" => Request::GetHistory(typed(parameters)?),
        "Explain" => typed(parameters).map(|Id { id }| Request::Explain { id })?,
        "Diff" => Request::Diff(typed(parameters)?),
        "Plan" => typed(parameters).map(|None {}| Request::Plan)?,
        "Watch" => typed(parameters).map(|None {}| Request::Watch)?,
        "Query" => typed(parameters).map(|Word { query }| Request::Query(query))?,
        "Rearm" => {
            typed(parameters).map(|Where { tunable, netns }| Request::Rearm { tunable, netns })?
        }
        "Revert" => typed(parameters).map(|MaybeId { id }| Request::Revert { id })?,
        "Approve" => typed(parameters).map(|Id { id }| Request::Approve { id })?,
        "Reject" => {
            typed(parameters).map(|IdReason { id, reason }| Request::Reject { id, reason })?
        }
        "Enable" => typed(parameters).map(|Tuner { tuner }| Request::Enable { tuner })?,
        "Disable" => typed(parameters).map(|Tuner { tuner }| Request::Disable { tuner })?,
        "Pause" => typed(parameters)
            .map(|TunerSeconds { tuner, seconds }| Request::Pause { tuner, seconds })?,
        "Resume" => typed(parameters).map(|MaybeTuner { tuner }| Request::Resume { tuner })?,
        _ => return Ok(Option::None),
    }))
}

/// Varlink's own interface.
const SERVICE: &str = "\
interface org.varlink.service

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)

method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)

error MethodNotFound (method: string)

error MethodNotImplemented (method: string)

error InvalidParameter (parameter: string)

error ExpectedMore ()
";
