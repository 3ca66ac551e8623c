//! `logdrive principal`: create, list, describe, grant, revoke, quota, token, password, delete.
//!
//! Owns what can be typed, how principals are shown, and the refusal to delete without `--yes`. A
//! token goes to stdout, once; a password comes from stdin.

use std::io::stdout;

use clap::Subcommand;
use logdrive_client::{
    AlterPrincipal, Client, CreatePrincipal, Error, ErrorCode, Grant, IssuedToken,
    PrincipalSummary, Rights, Setting,
};

use super::args::Common;
use super::connect;
use super::credentials::new_password;
use super::exit::{Exit, Fault};
use super::output::{Format, Row, print_list, print_one};

/// Commands of `principal`.
#[derive(Debug, Subcommand)]
pub(crate) enum Principal {
    /// Creates a principal; without --with-token and --with-password it gets a token `default`.
    Create {
        /// 1 to 128 of A-Z a-z 0-9 . _ - and no dot at the start.
        name: String,
        /// What it may do: produce, consume, admin with commas between them, or all, on the topics
        /// whose names the glob matches; repeatable.
        #[arg(long = "grant", value_name = "RIGHTS:GLOB", value_parser = grant)]
        grants: Vec<Grant>,
        /// A quota, such as `connections=10`; repeatable.
        #[arg(long = "quota", value_name = "KEY=VALUE", value_parser = quota)]
        quotas: Vec<Setting>,
        /// Makes a token of this label, and prints it; repeatable.
        #[arg(long = "with-token", value_name = "LABEL")]
        tokens: Vec<String>,
        /// Reads a password from stdin.
        #[arg(long = "with-password")]
        password: bool,
    },
    /// Lists all principals; `-o raw` prints names alone.
    List,
    /// Shows what a principal may do, and what it logs in with.
    Describe {
        /// The principal.
        name: String,
    },
    /// Grants rights on the topics whose names a glob matches.
    Grant {
        /// The principal.
        name: String,
        /// produce, consume, admin with commas between them, or all.
        #[arg(value_parser = rights)]
        rights: Rights,
        /// A topic or a glob; `*` for every topic and the broker itself.
        topics: String,
    },
    /// Takes rights back that were granted on a glob.
    Revoke {
        /// The principal.
        name: String,
        /// produce, consume, admin with commas between them, or all.
        #[arg(value_parser = rights)]
        rights: Rights,
        /// The glob, as it was granted.
        topics: String,
    },
    /// Sets quotas; `KEY=` lifts one.
    Quota {
        /// The principal.
        name: String,
        /// A quota, such as `produce_bytes_per_second=1000000`.
        #[arg(value_name = "KEY=VALUE", value_parser = quota, required = true)]
        quotas: Vec<Setting>,
    },
    /// Makes a token and prints it, which is the only time that it is shown; one of the same label is
    /// replaced.
    Token {
        /// The principal.
        name: String,
        /// Tells it from other tokens.
        #[arg(default_value = "default")]
        label: String,
        /// Forgets the token of this label instead; its connections are ended.
        #[arg(long)]
        forget: bool,
    },
    /// Sets the password, which is read from stdin.
    Password {
        /// The principal.
        name: String,
        /// Forgets it instead; connections that logged in with it are ended.
        #[arg(long)]
        forget: bool,
    },
    /// Deletes a principal; its connections are ended.
    Delete {
        /// The principal.
        name: String,
        /// Does it; without this the command changes nothing.
        #[arg(long)]
        yes: bool,
    },
}

fn rights(text: &str) -> Result<Rights, String> {
    Rights::parse(text).ok_or_else(|| {
        "rights are produce, consume, admin with commas between them, or all".to_owned()
    })
}

fn grant(text: &str) -> Result<Grant, String> {
    match text.split_once(':') {
        Some((given, topics)) if !topics.is_empty() => Ok(Grant {
            rights: rights(given)?,
            topics: topics.to_owned(),
        }),
        _ => Err("a grant is RIGHTS:GLOB, such as produce,consume:app.*".to_owned()),
    }
}

fn quota(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Setting {
            key: key.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("a quota is KEY=VALUE, such as connections=10".to_owned()),
    }
}

/// Runs one of the commands.
pub(crate) async fn run(common: &Common, command: Principal) -> Result<Exit, Fault> {
    match command {
        Principal::List => list(common).await,
        Principal::Describe { name } => describe(common, &name).await,
        Principal::Delete { name, yes } => delete(common, &name, yes).await,
        Principal::Create {
            name,
            grants,
            quotas,
            mut tokens,
            password,
        } => {
            if tokens.is_empty() && !password {
                tokens.push("default".to_owned());
            }
            let mut create = CreatePrincipal {
                name: name.clone(),
                grants,
                quotas,
                tokens,
                ..CreatePrincipal::default()
            };
            if password {
                let password = new_password()?;
                create
                    .password
                    .push(logdrive_client::verifier(&password).await?);
            }
            let made = connect(common).await?.create_principal(create).await;
            done(common, &name, "created", made)
        }
        other => {
            let alter = alteration(other).await?;
            let (name, client) = (alter.name.clone(), connect(common).await?);
            done(
                common,
                &name,
                "altered",
                client.alter_principal(alter).await,
            )
        }
    }
}

/// What a command changes.
async fn alteration(command: Principal) -> Result<AlterPrincipal, Fault> {
    let mut alter = AlterPrincipal::default();
    match command {
        Principal::Grant {
            name,
            rights,
            topics,
        } => {
            alter.name = name;
            alter.grant.push(Grant { rights, topics });
        }
        Principal::Revoke {
            name,
            rights,
            topics,
        } => {
            alter.name = name;
            alter.revoke.push(Grant { rights, topics });
        }
        Principal::Quota { name, quotas } => {
            alter.name = name;
            let (unset, set): (Vec<_>, Vec<_>) =
                quotas.into_iter().partition(|it| it.value.is_empty());
            alter.unset = unset.into_iter().map(|it| it.key).collect();
            alter.set = set;
        }
        Principal::Token {
            name,
            label,
            forget,
        } => {
            alter.name = name;
            if forget {
                alter.forget_tokens.push(label);
            } else {
                alter.tokens.push(label);
            }
        }
        Principal::Password { name, forget } => {
            alter.name = name;
            alter.forget_password = forget;
            if !forget {
                let password = new_password()?;
                alter
                    .password
                    .push(logdrive_client::verifier(&password).await?);
            }
        }
        Principal::Create { name, .. }
        | Principal::Describe { name }
        | Principal::Delete { name, .. } => alter.name = name,
        Principal::List => {}
    }
    Ok(alter)
}

/// Says what was done: tokens on stdout, talk on stderr.
fn done(
    common: &Common,
    name: &str,
    what: &str,
    made: Result<Vec<IssuedToken>, Error>,
) -> Result<Exit, Fault> {
    let tokens = made.map_err(|error| Fault::of_change(&error))?;
    if let Some(format) = common.output.filter(|format| *format != Format::Raw) {
        let tokens = tokens.iter().map(|it| {
            Row::new()
                .text("label", &it.label)
                .text("token", it.token.expose_text().unwrap_or_default())
        });
        let row = Row::new()
            .text("name", name)
            .rows("tokens", tokens.collect());
        print_one(format, &row, &mut stdout().lock()).map_err(|e| Fault::stdout(&e))?;
        return Ok(Exit::Done);
    }
    eprintln!("{what} principal {name}");
    for issued in &tokens {
        eprintln!("its token {}, which is not shown again:", issued.label);
        let row = Row::new().text("token", issued.token.expose_text().unwrap_or_default());
        print_list(Format::Raw, &[row], &mut stdout().lock()).map_err(|e| Fault::stdout(&e))?;
    }
    Ok(Exit::Done)
}

async fn list(common: &Common) -> Result<Exit, Fault> {
    let principals = connect(common).await?.list_principals("").await?;
    let format = common.output.unwrap_or(Format::Table);
    let rows: Vec<Row> = principals.iter().map(summary).collect();
    print_list(format, &rows, &mut stdout().lock()).map_err(|e| Fault::stdout(&e))?;
    if principals.is_empty() && format == Format::Table {
        eprintln!("no principals; create one with: logdrive principal create NAME");
    }
    Ok(Exit::Done)
}

async fn find(client: &Client, name: &str) -> Result<PrincipalSummary, Fault> {
    let all = client.list_principals("").await?;
    let found = all.into_iter().find(|it| it.name == name);
    found.ok_or_else(|| {
        Fault::new(
            Exit::NotFound,
            format_args!(
                "{} there is no principal \"{name}\"",
                ErrorCode::PrincipalNotFound
            ),
        )
        .hint("list them with: logdrive principal list")
    })
}

async fn describe(common: &Common, name: &str) -> Result<Exit, Fault> {
    let principal = find(&connect(common).await?, name).await?;
    let pair = |name: &str, value: &str| Row::new().text("name", name).text("value", value);
    let grants = principal.grants.iter();
    let grants = grants.map(|it| {
        Row::new()
            .text("topics", &it.topics)
            .text("rights", it.rights.to_string())
    });
    let quotas = principal.quotas.iter().map(|it| pair(&it.key, &it.value));
    let tokens = principal.tokens.iter().map(|it| {
        Row::new()
            .text("label", &it.label)
            .time("created", it.created_at)
    });
    let usage = principal.usage.iter().fold(Row::new(), |row, counter| {
        row.count(&counter.name, counter.value)
    });
    let row = Row::new()
        .text("name", &principal.name)
        .time("created", principal.created_at)
        .flag("password", principal.password)
        .rows("grants", grants.collect())
        .rows("quotas", quotas.collect())
        .rows("tokens", tokens.collect())
        .fields("usage", usage);
    let format = common.output.unwrap_or(Format::Table);
    print_one(format, &row, &mut stdout().lock()).map_err(|e| Fault::stdout(&e))?;
    Ok(Exit::Done)
}

async fn delete(common: &Common, name: &str, yes: bool) -> Result<Exit, Fault> {
    let client = connect(common).await?;
    if !yes {
        let principal = find(&client, name).await?;
        let what = format!(
            "nothing was changed: this would delete principal {name} with {} tokens, and end its \
             connections",
            principal.tokens.len()
        );
        return Err(Fault::new(Exit::Usage, what).hint(format_args!(
            "do it with: logdrive principal delete {name} --yes"
        )));
    }
    match client.delete_principal(name).await {
        Ok(()) => {
            eprintln!("deleted principal {name}");
            Ok(Exit::Done)
        }
        Err(error) => Err(Fault::of_change(&error)),
    }
}

fn summary(principal: &PrincipalSummary) -> Row {
    let grants = principal.grants.iter();
    let grants: Vec<_> = grants
        .map(|it| format!("{}:{}", it.rights, it.topics))
        .collect();
    Row::new()
        .text("name", &principal.name)
        .text("grants", grants.join(" "))
        .count("tokens", principal.tokens.len() as u64)
        .flag("password", principal.password)
        .count("quotas", principal.quotas.len() as u64)
}
