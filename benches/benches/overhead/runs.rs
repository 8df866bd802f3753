//! Which hook each of a daemon's BPF programs is.

/// Name and section of each hook of a daemon that is on, in the order of [`programs`](lab::bpf_stats::programs): tuners load before the admin watch,
/// and libbpf loads an object's programs in their order.
pub(crate) fn hooks(status: &serde_json::Value) -> Vec<(String, String)> {
    let text = |hook: &serde_json::Value, key| hook[key].as_str().unwrap_or_default().to_owned();
    status["hooks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|hook| hook["owner"] != "admin-watch" && hook["off"].is_null())
        .map(|hook| (text(hook, "name"), text(hook, "section")))
        .collect()
}
