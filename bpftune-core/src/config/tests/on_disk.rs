//! Files as they lie on disk, and what a running daemon makes of them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;
use crate::{governor::ExitPolicy, trust::Trust};

fn files(directory: &Path) -> Files {
    Files {
        directory: directory.to_owned(),
        trust: Trust::own(),
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    // Whatever the umask of who runs the tests.
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn drop_ins_follow_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    assert_eq!(files.load().unwrap().config, Config::default());
    write(
        &dir.path().join("bpftune.toml"),
        "[governor]\nmode = \"observe\"\n[canary]\npercent = 7\n",
    );
    write(
        &dir.path().join("conf.d/20-b.toml"),
        "[governor]\nmode = \"auto\"\n",
    );
    write(
        &dir.path().join("conf.d/10-a.toml"),
        "[governor]\nmode = \"advise\"\n[journal]\nkeep_days = 1\n",
    );
    write(&dir.path().join("conf.d/30.toml.dpkg-new"), "nonsense");
    write(&dir.path().join("conf.d/.40.toml"), "nonsense");
    let loaded = files.load().unwrap();
    assert_eq!(loaded.config.governor.mode, Mode::Auto);
    assert_eq!(
        (
            loaded.config.canary.percent,
            loaded.config.journal.keep_days
        ),
        (7, 1)
    );
    let names: Vec<_> = loaded
        .files
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["bpftune.toml", "10-a.toml", "20-b.toml"]);
    let origin = loaded.origin("governor", "mode").unwrap();
    assert!(origin.file.ends_with("conf.d/20-b.toml") && origin.line == 2);
}

#[test]
fn files_that_others_could_have_written_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let main = dir.path().join("bpftune.toml");
    write(&main, "");
    fs::set_permissions(&main, fs::Permissions::from_mode(0o664)).unwrap();
    let error = files.load().unwrap_err().to_string();
    assert!(
        error.contains("mode 664") && error.contains("chmod go-w"),
        "{error}"
    );
    fs::remove_file(&main).unwrap();
    symlink("/etc/hostname", &main).unwrap();
    assert!(files.load().unwrap_err().to_string().contains("is a link"));
    fs::remove_file(&main).unwrap();
    write(&main, &"#".repeat(2 << 20));
    assert!(
        files
            .load()
            .unwrap_err()
            .to_string()
            .contains("larger than 1 MiB")
    );
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    fs::rename(dir.path().join("fifo"), &main).unwrap();
    assert!(
        files
            .load()
            .unwrap_err()
            .to_string()
            .contains("no regular file")
    );
}

#[test]
fn the_canary_needs_the_hosts_id_only_where_it_matters() {
    let missing = "host_id = \"/no/such/id\"\n";
    let loaded = read(&format!("[canary]\n{missing}")).unwrap();
    assert!(in_canary(&loaded).unwrap());
    let loaded = read(&format!("[canary]\npercent = 5\n{missing}")).unwrap();
    let error = in_canary(&loaded).unwrap_err().to_string();
    assert!(
        error.starts_with("test.toml:3:1: ") && error.contains("/no/such/id"),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    let id = dir.path().join("id");
    fs::write(&id, "web-1\n").unwrap();
    let at = |percent: u8| {
        let text = format!(
            "[canary]\npercent = {percent}\nhost_id = \"{}\"\n",
            id.display()
        );
        in_canary(&read(&text).unwrap()).unwrap()
    };
    assert_eq!(
        (0..=100).map(at).collect::<Vec<_>>(),
        (0..=100)
            .map(|p| crate::governor::canary("web-1", p))
            .collect::<Vec<_>>()
    );
}

#[test]
fn the_command_line_overrides_and_caps() {
    let dir = tempfile::tempdir().unwrap();
    write(
        &dir.path().join("bpftune.toml"),
        "[daemon]\nexit = \"restore-if-worse\"\n[governor]\nmode = \"auto\"\nchanges_per_hour = 5\n",
    );
    let live = Live::new(files(dir.path()), Overrides::default()).unwrap();
    assert_eq!(live.exit(), ExitPolicy::RestoreIfWorse);
    assert_eq!(live.policy().changes_per_hour, 5);
    assert_eq!(live.policy().most, None);
    let overrides = Overrides {
        mode: Some(Mode::Advise),
        no_global: true,
        changes_per_hour: Some(9),
        max_step: None,
        exit: Some(ExitPolicy::Keep),
        ..Overrides::default()
    };
    let live = Live::new(files(dir.path()), overrides).unwrap();
    let policy = live.policy();
    assert_eq!(
        (policy.mode, policy.global, policy.changes_per_hour),
        (Mode::Advise, false, 9)
    );
    assert_eq!(policy.most.unwrap().0, Mode::Advise);
    assert_eq!(live.exit(), ExitPolicy::Keep);
    for (key, option) in [
        ("mode", "--mode"),
        ("global", "--no-global"),
        ("changes_per_hour", "--changes-per-hour"),
    ] {
        let lever = policy.origins.lever("governor", key).to_string();
        assert!(lever.starts_with(option), "{lever}");
    }
}

#[test]
fn differences_say_what_waits_for_a_start() {
    let old = read("[governor]\nmode = \"auto\"\n[tuner.a]\nmode = \"advise\"\n").unwrap();
    let new = read("[governor]\nmode = \"advise\"\n[control]\nread_group = \"x\"\n").unwrap();
    assert_eq!(
        Live::differences(&old, &new),
        [
            "[governor] mode: \"auto\" -> \"advise\"",
            "[control] read_group: \"bpftune\" -> \"x\" (at the next start)",
            "[tuner.a] enabled: true -> unset (at the next start)",
            "[tuner.a] mode: \"advise\" -> unset",
        ]
    );
}
