//! The keys of receipts: from the settings, else from what the role has anyway. Must never let two gateways of a cluster start
//! with different ones unnoticed, nor write a key where others may read it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use lakefall_gateway::engine::ReceiptKeys;
use lakefall_queue::clock::Ambient;
use lakefall_service::Config;

use super::parts;
use crate::failure::Failure;

/// The key's file in the data folder.
const FILE: &str = "receipts.key";
/// Shortest key, in bytes.
const KEY_BYTES: usize = 32;

/// The keys of `lakefall dev`: without a setting, one that is drawn once and kept in the data folder.
pub(super) fn of_one_process(config: &Config, ambient: &Ambient) -> Result<ReceiptKeys, Failure> {
    let key = match set(config)? {
        Some(key) => key,
        None => kept(&config.data_dir.join(FILE), ambient)?,
    };
    Ok(keys(config, key))
}

/// The keys of a gateway beside others: without a setting, one that is derived from the token that they share.
pub(super) fn of_a_cluster(config: &Config) -> Result<ReceiptKeys, Failure> {
    match (set(config)?, parts::token(config)?) {
        (Some(key), _) => Ok(keys(config, key)),
        (None, Some(token)) => Ok(ReceiptKeys::derived(token.expose().as_bytes(), previous(config))),
        (None, None) => Err(Failure::Usage(
            "receipts.key is not set: all gateways need the same one, so that one settles what another leased; make one with \
             `openssl rand -hex 32` and give it to each as LAKEFALL_RECEIPTS__KEY or in receipts.key_file (with metadata.token set, \
             it is derived from that)"
                .to_owned(),
        )),
    }
}

fn keys(config: &Config, key: String) -> ReceiptKeys {
    ReceiptKeys::new(key.into_bytes(), previous(config))
}

fn previous(config: &Config) -> Vec<Vec<u8>> {
    config.receipts.previous.iter().map(|key| key.expose().clone().into_bytes()).collect()
}

fn set(config: &Config) -> Result<Option<String>, Failure> {
    let from = &config.receipts;
    let key = parts::secret(from.key.as_ref(), from.key_file.as_deref(), "receipts.key_file")?;
    match key {
        Some(key) if key.len() < KEY_BYTES => Err(Failure::Usage(format!(
            "receipts.key_file holds {} bytes: a key has {KEY_BYTES} or more; make one with `openssl rand -hex {KEY_BYTES}`",
            key.len()
        ))),
        key => Ok(key),
    }
}

/// The key in a file, which is written if it is not there.
fn kept(path: &Path, ambient: &Ambient) -> Result<String, Failure> {
    let failed =
        |what: &str, error: std::io::Error| Failure::Failed(format!("the receipts' key {} cannot be {what}: {error}", path.display()));
    match fs::read_to_string(path) {
        Ok(text) if text.trim_end().len() >= KEY_BYTES => return Ok(text.trim_end().to_owned()),
        Ok(_) => {
            let text = format!("the receipts' key {} is damaged: delete it, and receipts given out so far are worthless", path.display());
            return Err(Failure::Failed(text));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read", error)),
    }
    let key = format!("{:032x}{:032x}", ambient.entropy.draw(), ambient.entropy.draw());
    // Under another name first, so that no crash leaves half a key.
    let draft = path.with_extension("draft");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("written", error)),
        _ => {}
    }
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
        file.write_all(key.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&draft, path)).map_err(|error| failed("written", error))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use lakefall_service::{Secret, system_ambient};

    use super::*;

    #[test]
    fn dev_makes_a_key_once_that_nobody_else_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let first = kept(&path, &system_ambient()).unwrap();
        assert_eq!(kept(&path, &system_ambient()).unwrap(), first);
        assert_eq!((first.len(), fs::metadata(&path).unwrap().permissions().mode() & 0o777), (64, 0o600));
        fs::write(&path, "half").unwrap();
        assert!(matches!(kept(&path, &system_ambient()), Err(Failure::Failed(_))));
    }

    #[test]
    fn a_gateway_without_a_key_and_without_a_token_is_told_how_to_make_one() {
        let mut config = Config::default();
        let Err(Failure::Usage(text)) = of_a_cluster(&config) else { panic!("it has no key") };
        assert!(text.contains("openssl rand -hex 32"), "{text}");
        config.metadata.token = Some(Secret::new("shared".to_owned()));
        assert!(of_a_cluster(&config).is_ok());
    }

    #[test]
    fn a_key_in_a_file_is_used_without_its_newline_and_refused_when_it_is_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, format!("{}\n", "k".repeat(64))).unwrap();
        let mut config = Config::default();
        config.receipts.key_file = Some(path.clone());
        assert_eq!(set(&config).unwrap().map(|key| key.len()), Some(64));
        fs::write(&path, "short\n").unwrap();
        assert!(matches!(set(&config), Err(Failure::Usage(_))));
    }
}
