//! Images in a folder: files named by their digest, the least recently used thrown away when the room is needed.
//!
//! A file stands under its name only when its digest was right and it is safely on the disk. What is being fetched or
//! unpacked has a name that no finished file has; so a restart finds what is whole, and what can be gone on with.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Ending of a file that is being fetched. It is gone on with after a restart.
const PART: &str = ".part";
/// Ending of a file that is being unpacked. It is begun anew after a restart.
const UNPACKING: &str = ".unpacking";

/// A folder of images.
pub struct Cache {
    folder: PathBuf,
    capacity: u64,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    files: HashMap<String, Entry>,
    /// Bytes of files that are being made.
    reserved: u64,
}

struct Entry {
    file: Arc<File>,
    length: u64,
    used: SystemTime,
}

/// A file of the cache.
#[derive(Clone, Debug)]
pub struct Cached {
    /// Open for reading; it can be read to the end even when it is thrown away meanwhile.
    pub file: Arc<File>,
    /// Bytes.
    pub length: u64,
}

/// Room for a file that is being made; given back when this is dropped.
pub struct Room {
    cache: Arc<Cache>,
    bytes: u64,
}

impl Cache {
    /// The cache in `folder` with room for `capacity` bytes, and what it holds.
    pub fn open(folder: &Path, capacity: u64) -> io::Result<Cache> {
        fs::create_dir_all(folder)?;
        let mut entries = Entries::default();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata()?;
            if name.ends_with(UNPACKING) {
                fs::remove_file(entry.path())?;
            } else if metadata.is_file() && !name.ends_with(PART) {
                let (length, used) = (metadata.len(), metadata.modified()?);
                entries.files.insert(name, Entry { file: Arc::new(File::open(entry.path())?), length, used });
            }
        }
        let cache = Cache { folder: folder.into(), capacity, entries: Mutex::new(entries) };
        cache.lock().shrink(&cache.folder, capacity);
        Ok(cache)
    }

    /// How many bytes it may hold.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The file of this name.
    pub fn get(&self, name: &str) -> Option<Cached> {
        let mut entries = self.lock();
        let entry = entries.files.get_mut(name)?;
        let now = SystemTime::now();
        // A restart must know what was used last; it need not know it to the second.
        if now.duration_since(entry.used).is_ok_and(|age| age.as_secs() >= 60) {
            let _ = entry.file.set_modified(now);
        }
        entry.used = now;
        Some(Cached { file: entry.file.clone(), length: entry.length })
    }

    /// The name of a file that begins with `prefix`.
    pub fn find(&self, prefix: &str) -> Option<String> {
        self.lock().files.keys().find(|name| name.starts_with(prefix)).cloned()
    }

    /// Where `name` is while it is fetched.
    pub fn part(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{PART}"))
    }

    /// Where the file made of `name` is while it is unpacked.
    pub fn unpacking(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{UNPACKING}"))
    }

    /// Takes the finished file at `path` in under `name`. Waits for the disk.
    pub fn adopt(&self, path: &Path, name: &str, room: Room) -> io::Result<Cached> {
        let file = File::open(path)?;
        file.sync_all()?;
        let to = self.folder.join(name);
        fs::rename(path, &to)?;
        File::open(&self.folder)?.sync_all()?;
        let cached = Cached { length: file.metadata()?.len(), file: Arc::new(file) };
        let mut entries = self.lock();
        let entry = Entry { file: cached.file.clone(), length: cached.length, used: SystemTime::now() };
        entries.files.insert(name.into(), entry);
        drop(entries);
        drop(room);
        Ok(cached)
    }

    /// No room yet, for a file that is going to be made.
    pub fn room(self: &Arc<Cache>) -> Room {
        Room { cache: self.clone(), bytes: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn held(&self) -> u64 {
        self.reserved + self.files.values().map(|entry| entry.length).sum::<u64>()
    }

    /// Throws files away, those used longest ago first and none that is being read, until no more than `limit` is held.
    fn shrink(&mut self, folder: &Path, limit: u64) -> bool {
        while self.held() > limit {
            let idle = self.files.iter().filter(|(_, entry)| Arc::strong_count(&entry.file) == 1);
            let Some(name) = idle.min_by_key(|(_, entry)| entry.used).map(|(name, _)| name.clone()) else {
                return false;
            };
            tracing::info!(image = name, "image thrown out of the cache");
            self.files.remove(&name);
            if let Err(why) = fs::remove_file(folder.join(&name)) {
                tracing::warn!(image = name, %why, "image cannot be removed");
            }
        }
        true
    }
}

impl Room {
    /// Makes it `bytes` large; false when so much cannot be had.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let mut entries = self.cache.lock();
        let limit = self.cache.capacity;
        if more > limit || !entries.shrink(&self.cache.folder, limit - more) {
            return false;
        }
        entries.reserved += more;
        self.bytes += more;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut entries = self.cache.lock();
        entries.reserved = entries.reserved.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn add(cache: &Arc<Cache>, name: &str, length: usize) -> bool {
        let mut room = cache.room();
        if !room.grow(length as u64) {
            return false;
        }
        fs::write(cache.part(name), vec![1; length]).expect("writable");
        cache.adopt(&cache.part(name), name, room).expect("adopted");
        true
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_used_longest_ago_makes_room_but_not_what_is_being_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Arc::new(Cache::open(folder.path(), 100).expect("opens"));
        assert!(add(&cache, "a", 40) && add(&cache, "b", 40));
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(cache.get("a").map(|cached| cached.length), Some(40));
        assert!(add(&cache, "c", 40));
        assert_eq!(names(folder.path()), ["a", "c"]);
        let reading = cache.get("a").expect("there");
        assert!(add(&cache, "d", 60));
        assert_eq!(names(folder.path()), ["a", "d"]);
        assert!(!add(&cache, "e", 61), "a is being read and d is not enough");
        assert!(!add(&cache, "f", 101), "more than all of it");
        drop(reading);
        assert_eq!(cache.lock().reserved, 0);
    }

    #[test]
    fn a_restart_keeps_what_is_whole_and_what_can_be_gone_on_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Arc::new(Cache::open(folder.path(), 100).expect("opens"));
        assert!(add(&cache, "old", 40) && add(&cache, "new", 40));
        fs::write(cache.part("half"), "x").expect("writable");
        fs::write(cache.unpacking("half"), "x").expect("writable");
        let hour = SystemTime::now() - Duration::from_secs(3600);
        cache.get("old").expect("there").file.set_modified(hour).expect("a time");
        let again = Cache::open(folder.path(), 50).expect("opens");
        assert!(again.get("old").is_none() && again.get("new").is_some());
        assert_eq!(names(folder.path()), ["half.part", "new"]);
    }
}
