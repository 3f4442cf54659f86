//! Keys, from where they are kept. No message repeats what was read.

use std::path::Path;

use orcapack_actors::model::settings::Secret;

use crate::config_models::KeySource;

/// The value of an environment variable, `None` where it is not set.
pub type Variables = fn(&str) -> Option<String>;

/// More than any service's keys have; what is longer is another file.
const KEY_BYTES_MAX: usize = 16 << 10;

/// # Errors
/// What is wrong with it, to be put behind the name of the source.
pub fn read(source: &KeySource, variables: Variables) -> Result<Secret, String> {
    let read = match source {
        KeySource::Variable(name) => variables(name).ok_or("is not set".to_owned()),
        KeySource::File(path) => read_file(path),
    };
    match read?.trim() {
        "" => Err("is empty".to_owned()),
        key if key.len() > KEY_BYTES_MAX => Err(format!("is longer than {KEY_BYTES_MAX} bytes")),
        key if !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("holds more than a line of visible ASCII".to_owned())
        }
        key => Ok(Secret::new(key)),
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > KEY_BYTES_MAX as u64 {
        return Err(format!("is longer than {KEY_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}
