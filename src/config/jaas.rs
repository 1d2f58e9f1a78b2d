//! Logins in JAAS files, in so far as a broker without a JVM can honour them: the section that the ZooKeeper client uses.
//!
//! The file is named as for Apache Kafka: `-Djava.security.auth.login.config=FILE` in `KAFKA_OPTS`; beside it
//! `-Dzookeeper.sasl.client=false` and `-Dzookeeper.sasl.clientconfig=SECTION` count (classes `JaasUtils`, `ConfigFile`).
//!
//! Invariant: a file that is named but cannot be used is an error; a login module other than DIGEST-MD5's too.

use super::error::ConfigError;

/// What the module needs.
const DIGEST_MODULE: &str = "org.apache.zookeeper.server.auth.DigestLoginModule";

#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: String,
}

/// The password stays out of logs.
impl std::fmt::Debug for Login {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "Login({})", self.username)
    }
}

/// The login of the ZooKeeper client; `None` if no file is named, or it has no section for it.
pub fn client_login(java_options: &str) -> Result<Option<Login>, ConfigError> {
    let option = |name: &str| {
        let found = java_options.split_whitespace().filter_map(|word| word.strip_prefix("-D")?.strip_prefix(name));
        found.filter_map(|rest| rest.strip_prefix('=')).next_back()
    };
    let Some(path) = option("java.security.auth.login.config") else { return Ok(None) };
    if option("zookeeper.sasl.client").is_some_and(|value| value.eq_ignore_ascii_case("false")) {
        return Ok(None);
    }
    let path = path.trim_matches(['"', '\'']);
    // Java allows a URL, and a second `=` that replaces every other file.
    let path = path.strip_prefix('=').unwrap_or(path);
    let path = path.strip_prefix("file://").or_else(|| path.strip_prefix("file:")).unwrap_or(path);
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path.as_ref(), error))?;
    let wrong = |reason: String| ConfigError::Conflict(format!("{path}: {reason}"));
    let sections = parse(&text).map_err(|reason| wrong(reason.to_owned()))?;
    let name = option("zookeeper.sasl.clientconfig").unwrap_or("Client");
    let Some(section) = sections.into_iter().find(|section| section.name == name) else { return Ok(None) };
    if section.module != DIGEST_MODULE {
        return Err(wrong(format!(
            "login module {} of section {name}: only {DIGEST_MODULE} is supported",
            section.module
        )));
    }
    let value = |key: &str| section.options.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    match (value("username"), value("password")) {
        (Some(username), Some(password)) => Ok(Some(Login { username, password })),
        _ => Err(wrong(format!("section {name} needs a username and a password"))),
    }
}

struct Section {
    name: String,
    /// Of the first login module.
    module: String,
    options: Vec<(String, String)>,
}

/// `Name { module flag key="value" ...; ... };`
fn parse(text: &str) -> Result<Vec<Section>, &'static str> {
    let mut tokens = tokens(text)?.into_iter().peekable();
    let mut sections = Vec::new();
    while let Some(name) = tokens.next() {
        if tokens.next().as_deref() != Some("{") {
            return Err("expected `{` behind the name of a section");
        }
        let (module, _flag) = (tokens.next().ok_or("a section without an end")?, tokens.next());
        let (mut options, mut in_first) = (Vec::new(), true);
        loop {
            let token = tokens.next().ok_or("a section without an end")?;
            match token.as_str() {
                "}" => break,
                ";" => in_first = false,
                _ if in_first => {
                    if tokens.next_if(|next| next == "=").is_none() {
                        return Err("expected key=value behind a login module");
                    }
                    options.push((token, tokens.next().ok_or("a key without a value")?));
                }
                _ => {}
            }
        }
        tokens.next_if(|next| next == ";");
        sections.push(Section { name, module, options });
    }
    Ok(sections)
}

/// Words, quoted strings without their quotes, and the four signs; comments left out.
fn tokens(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut found, mut letters) = (Vec::new(), text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '}' | ';' | '=' => found.push(letter.to_string()),
            '"' => found.push(quoted(&mut letters)?),
            '#' => while letters.next_if(|next| *next != '\n').is_some() {},
            '/' if letters.next_if_eq(&'/').is_some() => while letters.next_if(|next| *next != '\n').is_some() {},
            '/' if letters.next_if_eq(&'*').is_some() => {
                let mut last = ' ';
                loop {
                    let next = letters.next().ok_or("a comment without an end")?;
                    if last == '*' && next == '/' {
                        break;
                    }
                    last = next;
                }
            }
            space if space.is_whitespace() => {}
            other => {
                let mut word = String::from(other);
                while let Some(next) = letters.next_if(|next| !next.is_whitespace() && !"{};=\"".contains(*next)) {
                    word.push(next);
                }
                found.push(word);
            }
        }
    }
    Ok(found)
}

fn quoted(letters: &mut impl Iterator<Item = char>) -> Result<String, &'static str> {
    let mut text = String::new();
    loop {
        match letters.next().ok_or("a quote without an end")? {
            '"' => return Ok(text),
            '\\' => text.push(letters.next().ok_or("a quote without an end")?),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(file: &str, more: &str) -> Result<Option<Login>, ConfigError> {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("jaas.conf");
        std::fs::write(&path, file).expect("written");
        client_login(&format!("-Xmx1g -Djava.security.auth.login.config={} {more}", path.display()))
    }

    const FILE: &str = r#"
        // as in Kafka's documentation
        KafkaServer { org.apache.kafka.common.security.plain.PlainLoginModule required username="x" password="y"; };
        /* the ZooKeeper client */
        Client {
            org.apache.zookeeper.server.auth.DigestLoginModule required
            username="alice"
            password="a\"b;c"; # and nothing else
        };
        Other { org.apache.zookeeper.server.auth.DigestLoginModule required username=bob password=p; };
    "#;

    #[test]
    fn the_section_of_the_client_counts() {
        let alice = Login { username: "alice".into(), password: "a\"b;c".into() };
        assert_eq!(login(FILE, ""), Ok(Some(alice)));
        let bob = Login { username: "bob".into(), password: "p".into() };
        assert_eq!(login(FILE, "-Dzookeeper.sasl.clientconfig=Other"), Ok(Some(bob)));
        assert_eq!(login(FILE, "-Dzookeeper.sasl.client=false"), Ok(None));
        assert_eq!(login(FILE, "-Dzookeeper.sasl.clientconfig=Nobody"), Ok(None));
        assert_eq!(client_login("-Xmx1g"), Ok(None));
    }

    #[test]
    fn what_cannot_be_used_is_an_error() {
        let wrong = [
            "Client { com.sun.security.auth.module.Krb5LoginModule required; };",
            "Client { org.apache.zookeeper.server.auth.DigestLoginModule required username=\"x\"; };",
            "Client { org.apache.zookeeper.server.auth.DigestLoginModule required",
            "Client",
            "Client { \"",
        ];
        for file in wrong {
            assert!(login(file, "").is_err(), "{file}");
        }
        assert!(client_login("-Djava.security.auth.login.config=/nowhere/at/all").is_err());
    }
}
