//! A task's files on their way to another machine: their bytes go along, wherever they lie here.

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};

use crate::caps::TASK_FILES_MAX;
use crate::file_tree::FileTree;

impl Encode for FileTree {
    /// Fails where a file on disk is gone or has changed since the task was read.
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.iter().count() as u64).encode(encoder)?;
        for (path, entry) in self.iter() {
            let bytes =
                entry.read().map_err(|error| EncodeError::OtherString(error.to_string()))?;
            path.encode(encoder)?;
            entry.executable.encode(encoder)?;
            bytes[..].encode(encoder)?;
        }
        Ok(())
    }
}

impl<Context> Decode<Context> for FileTree {
    /// Digests are taken anew, so that they are those of the bytes that came.
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let count = u64::decode(decoder)?;
        if count > TASK_FILES_MAX as u64 {
            let message = format!("expected at most {TASK_FILES_MAX} files, found {count}");
            return Err(DecodeError::OtherString(message));
        }
        let mut files = Self::default();
        for _ in 0..count {
            let path = String::decode(decoder)?;
            if !Self::is_plain_path(&path) {
                let message = format!("expected a plain relative path, found `{path}`");
                return Err(DecodeError::OtherString(message));
            }
            let executable = bool::decode(decoder)?;
            let bytes = Vec::<u8>::decode(decoder)?;
            files.insert(path, &bytes, executable);
        }
        Ok(files)
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for FileTree {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::Fixture;
    use crate::{dataset, task_digest};

    fn round<T: Encode + Decode<()>>(value: &T) -> Result<T, DecodeError> {
        let config = bincode::config::standard();
        let bytes = bincode::encode_to_vec(value, config).expect("encodes");
        bincode::decode_from_slice(&bytes, config).map(|(value, _)| value)
    }

    #[test]
    fn every_built_in_task_is_the_same_task_elsewhere() {
        let options = dataset::LoadOptions { lookup: &|_| None };
        let builtin = concat!(env!("CARGO_MANIFEST_DIR"), "/builtin");
        let set = dataset::load(builtin.as_ref(), &options).expect("loads");
        assert!(!set.tasks.is_empty());
        for task in set.tasks {
            let there = round(&task).expect("decodes");
            assert_eq!((&there.name, task_digest::of(&there)), (&task.name, task.digest));
        }
    }

    #[test]
    fn a_file_that_has_changed_since_it_was_read_is_not_sent() {
        let fixture = Fixture::new().file("a.txt", "one");
        let (path, bytes) = (fixture.at("a.txt"), b"one");
        let mut files = FileTree::default();
        files.insert("a.txt", bytes, false);
        let mut entry = files.get("a.txt").expect("is there").clone();
        entry.content = crate::file_tree::Content::OnDisk(path.clone());
        files.insert_entry("a.txt", entry);
        std::fs::write(path, "two").expect("writes");
        let error = bincode::encode_to_vec(&files, bincode::config::standard());
        assert!(error.expect_err("refused").to_string().contains("has changed"), "told");
    }

    #[test]
    fn a_path_that_leads_out_of_the_tree_is_refused() {
        let bytes =
            bincode::encode_to_vec((1_u64, "../x", false, vec![1_u8]), bincode::config::standard());
        let read = bincode::decode_from_slice::<FileTree, _>(
            &bytes.expect("encodes"),
            bincode::config::standard(),
        );
        assert!(read.expect_err("refused").to_string().contains("../x"));
    }

    proptest! {
        #[test]
        fn trees_arrive_as_they_left(
            files in prop::collection::btree_map("[a-z]{1,8}(/[a-z]{1,8}){0,2}", any::<(Vec<u8>, bool)>(), 0..8)
        ) {
            let mut tree = FileTree::default();
            files.iter().for_each(|(path, (bytes, mode))| tree.insert(path, bytes, *mode));
            prop_assert_eq!(round(&tree).expect("decodes"), tree);
        }
    }
}
