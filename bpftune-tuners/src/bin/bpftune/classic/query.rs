//! `-q`: asks a running daemon.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    time::Duration,
};

use bpftune_core::control::{Client, Query};
use serde::Deserialize;
use serde_json::json;

use crate::exit::{self, Failure, Outcome};

#[derive(Deserialize)]
struct Text {
    text: String,
}

/// Over the control socket, or where a port is given over that.
pub(super) fn ask(query: Query, port: Option<u16>, control: &Path) -> Outcome {
    let Some(port) = port else {
        let reply: Text = Client::connect(control)?.call("Query", json!({ "query": query }))?;
        print!("{}", reply.text);
        return Ok(());
    };
    let failed = |error: std::io::Error| {
        let text =
            format!("no bpftune answers on 127.0.0.1:{port}: {error}; start it with -p {port}");
        Failure(exit::UNAVAILABLE, text)
    };
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
    let word = json!(query);
    writeln!(stream, "{}", word.as_str().unwrap_or_default()).map_err(failed)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .map_err(failed)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(failed)?;
    print!("{text}");
    Ok(())
}
