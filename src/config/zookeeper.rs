//! How the broker and its ZooKeeper trust each other: `zookeeper.set.acl`, `zookeeper.ssl.*`, and the login of section `Client`
//! of a JAAS file (classes `KafkaConfig.zooKeeperClientProperty`, `JaasUtils`).
//!
//! Invariant: ACLs without an identity would lock the broker out of its own znodes, so they are refused.

use super::error::ConfigError;
use super::jaas::{self, Login};
use super::keystore::StoreFile;
use super::value::Value;
use super::values::Values;
use serde_json::{Value as Json, json};

/// `zookeeper.ssl.*`
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsSettings {
    pub keystore: Option<StoreFile>,
    /// Kafka without one trusts what the JVM trusts; here it has to be named.
    pub truststore: Option<StoreFile>,
    /// `zookeeper.ssl.endpoint.identification.algorithm` is HTTPS.
    pub verify_host: bool,
    /// JSSE's names; empty is all.
    pub cipher_suites: Vec<String>,
    /// `TLSv1.2`, `TLSv1.3`; empty is both.
    pub protocols: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ZookeeperSecurity {
    pub set_acl: bool,
    pub tls: Option<TlsSettings>,
    pub login: Option<Login>,
}

impl ZookeeperSecurity {
    /// `java_options` is what a Kafka script would give to the JVM: `KAFKA_OPTS`, which names the JAAS file.
    pub fn of(values: &Values, java_options: &str) -> Result<ZookeeperSecurity, ConfigError> {
        let security = ZookeeperSecurity {
            set_acl: values.boolean("zookeeper.set.acl")?,
            tls: if values.boolean("zookeeper.ssl.client.enable")? { Some(tls(values)?) } else { None },
            login: match values.is_set("zookeeper.connect") {
                true => jaas::client_login(java_options)?,
                false => None,
            },
        };
        let has_key = security.tls.as_ref().is_some_and(|tls| tls.keystore.is_some());
        if security.set_acl && security.login.is_none() && !has_key {
            return Err(ConfigError::Conflict(
                "zookeeper.set.acl=true needs a login to ZooKeeper: name a JAAS file with a section Client in KAFKA_OPTS \
                 (-Djava.security.auth.login.config=FILE), or set zookeeper.ssl.client.enable and zookeeper.ssl.keystore.location"
                    .to_owned(),
            ));
        }
        Ok(security)
    }

    /// For the pipe to the session guardian.
    pub fn to_json(&self) -> Json {
        let store = |store: &Option<StoreFile>| {
            store.as_ref().map(|store| json!({"path": store.path.display().to_string(), "password": store.password}))
        };
        let tls = self.tls.as_ref().map(|tls| {
            json!({
                "keystore": store(&tls.keystore), "truststore": store(&tls.truststore), "verify_host": tls.verify_host,
                "cipher_suites": tls.cipher_suites, "protocols": tls.protocols,
            })
        });
        let login = self.login.as_ref().map(|login| json!({"username": login.username, "password": login.password}));
        json!({"set_acl": self.set_acl, "tls": tls, "login": login})
    }

    /// What [`ZookeeperSecurity::to_json`] wrote; what is missing is taken as not set.
    pub fn from_json(json: &Json) -> ZookeeperSecurity {
        let text = |json: &Json| json.as_str().map(str::to_owned);
        let texts = |json: &Json| json.as_array().into_iter().flatten().filter_map(text).collect();
        let store =
            |json: &Json| Some(StoreFile { path: json["path"].as_str()?.into(), password: text(&json["password"]) });
        let tls = json["tls"].as_object().map(|_| &json["tls"]).map(|tls| TlsSettings {
            keystore: store(&tls["keystore"]),
            truststore: store(&tls["truststore"]),
            verify_host: tls["verify_host"].as_bool().unwrap_or(true),
            cipher_suites: texts(&tls["cipher_suites"]),
            protocols: texts(&tls["protocols"]),
        });
        let login = &json["login"];
        let login = text(&login["username"]).zip(text(&login["password"]));
        ZookeeperSecurity {
            set_acl: json["set_acl"] == true,
            tls,
            login: login.map(|(username, password)| Login { username, password }),
        }
    }
}

fn tls(values: &Values) -> Result<TlsSettings, ConfigError> {
    let store = |location: &str, password: &str| -> Result<Option<StoreFile>, ConfigError> {
        let password = values.optional_text(password)?;
        Ok(values.optional_text(location)?.map(|path| StoreFile { path: path.into(), password }))
    };
    let list = |name: &str| -> Result<Vec<String>, ConfigError> {
        Ok(match values.value(name)? {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        })
    };
    let algorithm = "zookeeper.ssl.endpoint.identification.algorithm";
    let verify_host = values.checked(algorithm, |name, text| match text {
        "" => Ok(false),
        https if https.eq_ignore_ascii_case("https") => Ok(true),
        other => Err(ConfigError::bad_value(name, other, "HTTPS, or empty for any host")),
    })?;
    let truststore = store("zookeeper.ssl.truststore.location", "zookeeper.ssl.truststore.password")?;
    if truststore.is_none() {
        let reason = "zookeeper.ssl.client.enable=true needs zookeeper.ssl.truststore.location: there is no JVM whose \
                      certificates could be trusted instead";
        return Err(ConfigError::Conflict(reason.to_owned()));
    }
    Ok(TlsSettings {
        keystore: store("zookeeper.ssl.keystore.location", "zookeeper.ssl.keystore.password")?,
        truststore,
        verify_host,
        cipher_suites: list("zookeeper.ssl.cipher.suites")?,
        protocols: list("zookeeper.ssl.enabled.protocols")?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::values::Settings;
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<ZookeeperSecurity, ConfigError> {
        let mut settings = Settings::default();
        pairs.iter().for_each(|(name, value)| settings.set(name, value, "f"));
        ZookeeperSecurity::of(&Values { settings: &settings }, "")
    }

    #[test]
    fn what_is_set_goes_through_the_pipe() {
        let security = of(&[
            ("zookeeper.connect", "z"),
            ("zookeeper.set.acl", "true"),
            ("zookeeper.ssl.client.enable", "true"),
            ("zookeeper.ssl.keystore.location", "/k"),
            ("zookeeper.ssl.keystore.password", "p\"w"),
            ("zookeeper.ssl.truststore.location", "/t"),
            ("zookeeper.ssl.endpoint.identification.algorithm", ""),
            ("zookeeper.ssl.enabled.protocols", "TLSv1.2,TLSv1.3"),
        ])
        .expect("valid");
        assert_eq!(ZookeeperSecurity::from_json(&security.to_json()), security);
        let login = Some(Login { username: "u".into(), password: "p".into() });
        let security = ZookeeperSecurity { login, ..ZookeeperSecurity::default() };
        assert_eq!(ZookeeperSecurity::from_json(&security.to_json()), security);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert!(of(&[("zookeeper.set.acl", "true")]).is_err(), "nobody would be allowed anything");
        assert!(of(&[("zookeeper.ssl.client.enable", "true")]).is_err(), "nobody would be trusted");
        let odd = [
            ("zookeeper.ssl.client.enable", "true"),
            ("zookeeper.ssl.truststore.location", "/t"),
            ("zookeeper.ssl.endpoint.identification.algorithm", "LDAPS"),
        ];
        assert!(of(&odd).is_err());
    }
}
