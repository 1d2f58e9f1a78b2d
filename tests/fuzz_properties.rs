//! Properties files of random bytes: every one gives pairs or one line of error. `OTTLA_FUZZ_ITERATIONS` sets how many.

use ottla::config::load::from_properties;
use ottla::config::{Properties, definitions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn iterations() -> u64 {
    std::env::var("OTTLA_FUZZ_ITERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// Bytes as they come, or pieces that mean something to the parser, or names of properties with odd values.
fn file(random: &mut StdRng) -> Vec<u8> {
    let pieces: &[&[u8]] =
        &[b"\\", b"\n", b"\r\n", b" ", b"=", b":", b"#", b"\\u", b"\\u0041", b"ud83d", b"\\udc00", b"1", b",", b"://"];
    let count = random.random_range(0..60);
    match random.random_range(0..3) {
        0 => (0..count).map(|_| random.random()).collect(),
        1 => (0..count).flat_map(|_| pieces[random.random_range(0..pieces.len())].iter().copied()).collect(),
        _ => {
            let names: Vec<&str> = definitions::broker_properties().map(|property| property.name).collect();
            let values = [
                "",
                "-1",
                "0",
                "1",
                "9223372036854775807",
                "true",
                "PLAINTEXT://:1",
                "A:SSL",
                "[::1]:x",
                ",",
                "\\u0000",
                "\u{1f600}",
            ];
            let line = |random: &mut StdRng| {
                let name = names[random.random_range(0..names.len())];
                format!("{name}={}\n", values[random.random_range(0..values.len())])
            };
            (0..random.random_range(0..6)).flat_map(|_| line(random).into_bytes()).collect()
        }
    }
}

#[test]
fn any_bytes_are_pairs_or_an_error() {
    for seed in 0..iterations() {
        let bytes = file(&mut StdRng::seed_from_u64(seed));
        let outcome = Properties::parse(&bytes).and_then(|properties| {
            let held: usize = properties.iter().map(|(key, value)| key.len() + value.len()).sum();
            // A Latin-1 letter takes two bytes in UTF-8, an escape of six bytes at most three.
            assert!(held <= 2 * bytes.len(), "seed {seed}");
            from_properties(Some((&properties, "f")), &[])
        });
        let lines = match outcome {
            Ok(loaded) => loaded.warnings,
            Err(error) => vec![error.to_string()],
        };
        for line in lines {
            assert!(!line.chars().any(char::is_control), "seed {seed}: {line:?}");
        }
    }
}
