//! Properties of authentication, authorization and encryption.

use super::Property;
use super::table::*;

pub(super) static SECURITY: &[Property] = properties! {
    "authorizer.class.name" Text = "", NonNull, Low, ReadOnly, Unsafe;
        "Authorizer that decides who may do what; empty allows everything."
    "connection.failed.authentication.delay.ms" Int = "100", AtLeast(0), Low, ReadOnly, Moot;
        "Delay before a connection that failed to authenticate is closed."
    "connections.max.reauth.ms" Long = "0", Any, Medium, ReadOnly, Moot;
        "Longest time before a SASL client has to authenticate again."
    "delegation.token.expiry.check.interval.ms" Long = "3600000", AtLeast(1), Low, ReadOnly, Moot;
        "How often expired delegation tokens are removed."
    "delegation.token.expiry.time.ms" Long = "86400000", AtLeast(1), Medium, ReadOnly, Moot;
        "Time after which a delegation token has to be renewed."
    "delegation.token.master.key" Password = null, Any, Medium, ReadOnly, Unsafe;
        "Older name of delegation.token.secret.key."
    "delegation.token.max.lifetime.ms" Long = "604800000", AtLeast(1), Medium, ReadOnly, Moot;
        "Longest life of a delegation token."
    "delegation.token.secret.key" Password = null, Any, Medium, ReadOnly, Unsafe;
        "Secret that signs delegation tokens; without it there are none."
    "password.encoder.cipher.algorithm" Text = "AES/CBC/PKCS5Padding", Any, Low, ReadOnly, Moot;
        "Cipher of passwords in dynamic configs."
    "password.encoder.iterations" Int = "4096", AtLeast(1024), Low, ReadOnly, Moot;
        "Key derivation iterations for passwords in dynamic configs."
    "password.encoder.key.length" Int = "128", AtLeast(8), Low, ReadOnly, Moot;
        "Key length for passwords in dynamic configs."
    "password.encoder.keyfactory.algorithm" Text = null, Any, Low, ReadOnly, Moot;
        "Key derivation for passwords in dynamic configs."
    "password.encoder.old.secret" Password = null, Any, Medium, ReadOnly, Unsafe;
        "Previous secret, for changing password.encoder.secret."
    "password.encoder.secret" Password = null, Any, Medium, ReadOnly, Unsafe;
        "Secret that encrypts passwords in dynamic configs."
    "principal.builder.class" Class = "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
        Any, Medium, PerBroker, Unsafe;
        "Java class that makes a principal of a connection."
    "sasl.client.callback.handler.class" Class = null, Any, Medium, ReadOnly, Ignored;
        "Java class for SASL client callbacks."
    "sasl.enabled.mechanisms" List = "GSSAPI", Any, Medium, PerBroker, Ignored;
        "SASL mechanisms that are offered to clients."
    "sasl.jaas.config" Password = null, Any, Medium, PerBroker, Ignored;
        "JAAS login of a listener."
    "sasl.kerberos.kinit.cmd" Text = "/usr/bin/kinit", Any, Medium, PerBroker, Moot;
        "Path of kinit."
    "sasl.kerberos.min.time.before.relogin" Long = "60000", Any, Medium, PerBroker, Moot;
        "Pause between two refreshes of a Kerberos ticket."
    "sasl.kerberos.principal.to.local.rules" List = "DEFAULT", Any, Medium, PerBroker, Ignored;
        "Rules from Kerberos principals to short names."
    "sasl.kerberos.service.name" Text = null, Any, Medium, PerBroker, Ignored;
        "Kerberos service name of the brokers."
    "sasl.kerberos.ticket.renew.jitter" Double = "0.05", Any, Medium, PerBroker, Moot;
        "Random share of the time to renewal of a Kerberos ticket."
    "sasl.kerberos.ticket.renew.window.factor" Double = "0.8", Any, Medium, PerBroker, Moot;
        "Share of a Kerberos ticket's life before it is renewed."
    "sasl.login.callback.handler.class" Class = null, Any, Medium, ReadOnly, Ignored;
        "Java class for SASL login callbacks."
    "sasl.login.class" Class = null, Any, Medium, ReadOnly, Ignored;
        "Java class that does the SASL login."
    "sasl.login.connect.timeout.ms" Int = null, Any, Low, ReadOnly, Moot;
        "Connection time limit of an OAuth token request."
    "sasl.login.read.timeout.ms" Int = null, Any, Low, ReadOnly, Moot;
        "Read time limit of an OAuth token request."
    "sasl.login.refresh.buffer.seconds" Short = "300", Any, Medium, PerBroker, Moot;
        "Seconds before expiry at which a credential is refreshed."
    "sasl.login.refresh.min.period.seconds" Short = "60", Any, Medium, PerBroker, Moot;
        "Fewest seconds between two refreshes of a credential."
    "sasl.login.refresh.window.factor" Double = "0.8", Any, Medium, PerBroker, Moot;
        "Share of a credential's life before it is refreshed."
    "sasl.login.refresh.window.jitter" Double = "0.05", Any, Medium, PerBroker, Moot;
        "Random share of the time to refresh of a credential."
    "sasl.login.retry.backoff.max.ms" Long = "10000", Any, Low, ReadOnly, Moot;
        "Longest pause between login attempts."
    "sasl.login.retry.backoff.ms" Long = "100", Any, Low, ReadOnly, Moot;
        "First pause between login attempts."
    "sasl.mechanism.inter.broker.protocol" Text = "GSSAPI", Any, Medium, PerBroker, Ignored;
        "SASL mechanism among brokers."
    "sasl.oauthbearer.clock.skew.seconds" Int = "30", Any, Low, ReadOnly, Moot;
        "Clock difference that is allowed when a token is checked."
    "sasl.oauthbearer.expected.audience" List = null, Any, Low, ReadOnly, Ignored;
        "Audiences of which a token must name one."
    "sasl.oauthbearer.expected.issuer" Text = null, Any, Low, ReadOnly, Ignored;
        "Issuer that a token must name."
    "sasl.oauthbearer.jwks.endpoint.refresh.ms" Long = "3600000", Any, Low, ReadOnly, Moot;
        "How often token keys are fetched."
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms" Long = "10000", Any, Low, ReadOnly, Moot;
        "Longest pause between attempts to fetch token keys."
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms" Long = "100", Any, Low, ReadOnly, Moot;
        "First pause between attempts to fetch token keys."
    "sasl.oauthbearer.jwks.endpoint.url" Text = null, Any, Medium, ReadOnly, Ignored;
        "Where the token keys are."
    "sasl.oauthbearer.scope.claim.name" Text = "scope", Any, Low, ReadOnly, Moot;
        "Claim of a token with its scope."
    "sasl.oauthbearer.sub.claim.name" Text = "sub", Any, Low, ReadOnly, Moot;
        "Claim of a token with its subject."
    "sasl.oauthbearer.token.endpoint.url" Text = null, Any, Medium, ReadOnly, Ignored;
        "Where tokens come from."
    "sasl.server.callback.handler.class" Class = null, Any, Medium, ReadOnly, Ignored;
        "Java class for SASL server callbacks."
    "sasl.server.max.receive.size" Int = "524288", Any, Medium, ReadOnly, Moot;
        "Largest SASL message before authentication."
    "security.providers" Text = null, Any, Low, ReadOnly, Ignored;
        "Java security providers."
    "ssl.allow.dn.changes" Boolean = "false", Any, Low, ReadOnly, Moot;
        "A new keystore may have another distinguished name."
    "ssl.allow.san.changes" Boolean = "false", Any, Low, ReadOnly, Moot;
        "A new keystore may lack alternative names of the old one."
    "ssl.cipher.suites" List = "", Any, Medium, PerBroker, Ignored;
        "Cipher suites of TLS; empty means all."
    "ssl.client.auth" Text = "none", OneOf(&["required", "requested", "none"]), Medium, PerBroker, Ignored;
        "Whether clients need a certificate."
    "ssl.enabled.protocols" List = "TLSv1.2,TLSv1.3", Any, Medium, PerBroker, Ignored;
        "TLS versions that are offered."
    "ssl.endpoint.identification.algorithm" Text = "https", Any, Low, PerBroker, Ignored;
        "How the name in a certificate is checked; empty does not check it."
    "ssl.engine.factory.class" Class = null, Any, Low, PerBroker, Ignored;
        "Java class that makes TLS engines."
    "ssl.key.password" Password = null, Any, Medium, PerBroker, Ignored;
        "Password of the private key."
    "ssl.keymanager.algorithm" Text = "SunX509", Any, Medium, PerBroker, Moot;
        "Java key manager algorithm."
    "ssl.keystore.certificate.chain" Password = null, Any, Medium, PerBroker, Ignored;
        "Certificate chain in PEM."
    "ssl.keystore.key" Password = null, Any, Medium, PerBroker, Ignored;
        "Private key in PEM."
    "ssl.keystore.location" Text = null, Any, Medium, PerBroker, Ignored;
        "File of the keystore."
    "ssl.keystore.password" Password = null, Any, Medium, PerBroker, Ignored;
        "Password of the keystore."
    "ssl.keystore.type" Text = "JKS", Any, Medium, PerBroker, Ignored;
        "Format of the keystore."
    "ssl.principal.mapping.rules" Text = "DEFAULT", Any, Low, ReadOnly, Ignored;
        "Rules from distinguished names to principals."
    "ssl.protocol" Text = "TLSv1.3", Any, Medium, PerBroker, Moot;
        "Java name of the TLS context."
    "ssl.provider" Text = null, Any, Medium, PerBroker, Moot;
        "Java provider of TLS."
    "ssl.secure.random.implementation" Text = null, Any, Low, PerBroker, Moot;
        "Java random generator of TLS."
    "ssl.trustmanager.algorithm" Text = "PKIX", Any, Medium, PerBroker, Moot;
        "Java trust manager algorithm."
    "ssl.truststore.certificates" Password = null, Any, Medium, PerBroker, Ignored;
        "Trusted certificates in PEM."
    "ssl.truststore.location" Text = null, Any, Medium, PerBroker, Ignored;
        "File of the truststore."
    "ssl.truststore.password" Password = null, Any, Medium, PerBroker, Ignored;
        "Password of the truststore."
    "ssl.truststore.type" Text = "JKS", Any, Medium, PerBroker, Ignored;
        "Format of the truststore."
};
