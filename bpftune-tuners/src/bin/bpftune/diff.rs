//! `bpftune diff`.

use std::path::Path;

use bpftune_core::{
    Error,
    control::{Client, DiffRange, Difference, Differences},
    journal::{DecisionId, Journal},
    sysctl,
};

use crate::{
    exit::{Failure, Outcome},
    out::{Json, table},
    span,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// From just after this decision (D3) instead of from the original values
    from: Option<DecisionId>,
    /// To just after this one (D9) instead of now
    to: Option<DecisionId>,
    /// From this moment: 90s, 10m, 2h, 3d ago, or @UNIX_SECONDS
    #[arg(long, value_name = "WHEN", value_parser = span::moment, conflicts_with = "from")]
    since: Option<i64>,
    /// To this moment
    #[arg(long, value_name = "WHEN", value_parser = span::moment, conflicts_with = "to")]
    until: Option<i64>,
    /// As commands that make the same difference elsewhere
    #[arg(long, conflicts_with = "json")]
    sysctl: bool,
    #[command(flatten)]
    json: Json,
}

pub(crate) fn diff(args: &Args, control: &Path, state_dir: &Path) -> Outcome {
    let differences = differences(args, control, state_dir)?;
    if args.sysctl {
        for difference in &differences {
            println!("{}", command(difference));
        }
        return Ok(());
    }
    args.json.print(&differences, |differences| {
        if differences.is_empty() {
            println!("no difference");
            return;
        }
        let rows: Vec<_> = differences
            .iter()
            .map(|d| {
                [
                    d.tunable.clone(),
                    d.place.clone(),
                    d.before.clone(),
                    d.after.clone(),
                    d.by.map_or(String::new(), |id| DecisionId(id).to_string()),
                ]
            })
            .collect();
        print!(
            "{}",
            table(["parameter", "where", "before", "after", "by"], &rows)
        );
    })
}

/// From the daemon, or where none runs from the journal.
fn differences(args: &Args, control: &Path, state_dir: &Path) -> Result<Vec<Difference>, Failure> {
    let range = DiffRange {
        from_id: args.from.map(|id| id.0),
        from_unix_ms: args.since,
        to_id: args.to.map(|id| id.0),
        to_unix_ms: args.until,
    };
    match Client::connect(control) {
        Ok(mut client) => Ok(client.call::<Differences>("Diff", range)?.differences),
        Err(Error::NoDaemon { .. }) => {
            let (from, to) = range.points();
            let found = Journal::open_read_only(state_dir)?.diff(from, to)?;
            Ok(found.into_iter().map(Difference::from).collect())
        }
        Err(error) => Err(error.into()),
    }
}

/// A line for a shell. Values are digits and spaces, or a word; places may be anything, and so may devices be named.
pub(crate) fn command(difference: &Difference) -> String {
    let Difference {
        tunable,
        place,
        after,
        ..
    } = difference;
    let quoted = |text: &str| text.replace('\'', r"'\''");
    let set = if sysctl::is_file(tunable) {
        // A set of processors is a mask in its file.
        let text = after.parse().map(|value| sysctl::text_for(tunable, &value));
        let after = text.unwrap_or_else(|_| after.clone());
        format!("echo {after} > '{}'", quoted(tunable))
    } else {
        let (name, after) = sysctl::spelled(tunable, after);
        format!("sysctl -w {name}=\"{after}\"")
    };
    match place.as_str() {
        _ if !sysctl::is_of_netns(tunable) => set,
        "host" => set,
        // /sys shows the devices of a namespace only where it was mounted there.
        path if path.starts_with('/') && sysctl::is_file(tunable) => {
            let inside = format!("mount -t sysfs none /sys && {set}");
            format!(
                "nsenter --net='{}' unshare --mount sh -c '{}'",
                quoted(path),
                quoted(&inside)
            )
        }
        // A path; anything else is a namespace that no path led to.
        path if path.starts_with('/') => {
            format!("nsenter --net='{}' {set}", quoted(path))
        }
        other => format!("# in {other}: {set}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted() {
        let at = |place: &str| {
            command(&Difference {
                tunable: "net.ipv4.tcp_rmem".into(),
                netns: 1,
                place: place.into(),
                before: String::new(),
                after: "4096 131072 6291456".into(),
                by: None,
            })
        };
        let scheduler = command(&Difference {
            tunable: "/sys/block/it's!c0d0/queue/scheduler".into(),
            netns: 1,
            place: "host".into(),
            before: "none".into(),
            after: "mq-deadline".into(),
            by: None,
        });
        assert_eq!(
            scheduler,
            r"echo mq-deadline > '/sys/block/it'\''s!c0d0/queue/scheduler'"
        );
        let mask = |place: &str| {
            command(&Difference {
                tunable: "/sys/class/net/veth0/queues/rx-0/rps_cpus".into(),
                netns: 1,
                place: place.into(),
                before: "cpus none".into(),
                after: "cpus 0-1".into(),
                by: None,
            })
        };
        let set = "echo 00000003 > '/sys/class/net/veth0/queues/rx-0/rps_cpus'";
        assert_eq!(mask("host"), set);
        let inside = format!("mount -t sysfs none /sys && {set}").replace('\'', r"'\''");
        assert_eq!(
            mask("/run/netns/web"),
            format!("nsenter --net='/run/netns/web' unshare --mount sh -c '{inside}'")
        );
        let share = command(&Difference {
            tunable: "vm.dirty_bytes".into(),
            netns: 1,
            place: "host".into(),
            before: "67108864".into(),
            after: "ratio-20".into(),
            by: None,
        });
        assert_eq!(share, "sysctl -w vm.dirty_ratio=\"20\"");
        let set = "sysctl -w net.ipv4.tcp_rmem=\"4096 131072 6291456\"";
        assert_eq!(at("host"), set);
        assert_eq!(
            at("/run/netns/a b"),
            format!("nsenter --net='/run/netns/a b' {set}")
        );
        assert_eq!(
            at("/run/it's"),
            format!(r"nsenter --net='/run/it'\''s' {set}")
        );
        assert_eq!(at("netns 5"), format!("# in netns 5: {set}"));
    }
}
