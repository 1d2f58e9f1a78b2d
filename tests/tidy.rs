//! The house rules that a compiler does not know: arrows between rooms, sizes of files, words that stay out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Rooms from top to bottom. A room may use only rooms that stand below it.
const ROOMS: &[&str] = &[
    "broker",
    "net",
    "console",
    "api",
    "security",
    "quota",
    "group",
    "transaction",
    "coordinator",
    "controller",
    "replica",
    "peer",
    "zookeeper",
    "log",
    "config",
    "record",
    "wire",
    "base",
];

const FILE_BYTES_MAX: usize = 28 << 10;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, out: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).expect("readable folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("UTF-8 source");
                out.push((path, text));
            }
        }
    }
    let mut out = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut out);
    assert!(!out.is_empty());
    out
}

fn room_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// Names of the rooms that follow `crate::` in a line.
fn rooms_named(line: &str) -> Vec<String> {
    line.split("crate::")
        .skip(1)
        .map(|piece| piece.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn arrows_point_down() {
    let rank: HashMap<&str, usize> = ROOMS.iter().enumerate().map(|(at, room)| (*room, at)).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let Some(room) = room_of(&path) else { continue };
        if room == "main" || room == "lib" {
            continue;
        }
        let Some(&own) = rank.get(room.as_str()) else {
            wrong.push(format!("{}: room {room} is not in the list of rooms", path.display()));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", path.display(), number + 1);
            if line.contains("crate::{") {
                wrong.push(format!("{place}: one `use` line a room, so that its arrows can be read"));
            }
            for used in rooms_named(line) {
                if rank.get(used.as_str()).is_some_and(|&other| other < own) {
                    wrong.push(format!("{place}: {room} uses {used}, which stands above it"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_wire_names_the_message_crate() {
    for (path, text) in sources("src") {
        let room = room_of(&path).unwrap_or_default();
        assert!(room == "wire" || !text.contains("kafka_protocol"), "{} names kafka_protocol", path.display());
    }
}

#[test]
fn files_are_small_and_say_what_they_own() {
    for (path, text) in sources("src") {
        assert!(text.len() <= FILE_BYTES_MAX, "{} has {} bytes: it holds two ideas", path.display(), text.len());
        assert!(text.starts_with("//!"), "{} does not begin with what it owns", path.display());
    }
}

#[test]
fn nothing_is_left_half_done() {
    let banned = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore"), concat!("db", "g!(")];
    for folder in ["src", "tests"] {
        for (path, text) in sources(folder) {
            for word in banned {
                assert!(!text.contains(word), "{} contains {word}", path.display());
            }
        }
    }
}
