use super::*;
use rackwright_protocol::media::MAGIC;

const AREA: u64 = AREA_SIZE as u64;

/// `before` bytes 1, an area, and `after` bytes 2.
fn content(before: usize, after: usize) -> Vec<u8> {
    let mut bytes = vec![1; before];
    bytes.extend_from_slice(MAGIC);
    bytes.resize(before + AREA_SIZE, 0);
    bytes.resize(before + AREA_SIZE + after, 2);
    bytes
}

/// The media of a host whose area is all `own`.
fn host_media(content: &[u8], own: u8) -> HostMedia {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content).expect("writable");
    let media = Media::open(file.path()).expect("has an area");
    media.of_host(MediaKind::Iso, vec![own; AREA_SIZE], |_| String::new()).expect("an ISO")
}

#[test]
fn the_area_is_found_wherever_it_is_in_the_file() {
    for before in [0, 512, AREA_SIZE - 512, AREA_SIZE, 3 * AREA_SIZE + 1024] {
        let media = host_media(&content(before, 100), 9);
        assert_eq!(media.area_range(), Some(before as u64..before as u64 + AREA));
        assert_eq!(media.entity().length, before as u64 + AREA + 100);
    }
}

#[test]
fn a_file_without_a_whole_area_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), vec![0; 1000]).expect("writable");
    assert!(Media::open(file.path()).is_err());
    std::fs::write(file.path(), MAGIC).expect("writable");
    assert!(Media::open(file.path()).is_err());
}

#[tokio::test]
async fn every_range_is_the_file_with_the_area_laid_over() {
    let media = host_media(&content(1024, 300), 9);
    let whole = [vec![1; 1024], vec![9; AREA_SIZE], vec![2; 300]].concat();
    let length = media.entity().length;
    for range in [
        0..length,
        0..1,
        0..1024,
        1000..1030,
        1024..1024 + AREA,
        1024 + AREA - 1..1024 + AREA + 1,
        1024 + AREA..length,
        500..length - 1,
    ] {
        let bytes = axum::body::to_bytes(media.body(range.clone()), usize::MAX).await.expect("readable");
        assert_eq!(bytes, whole[range.start as usize..range.end as usize], "{range:?}");
        assert_eq!(media.is_own(&range), bytes.contains(&9), "{range:?}");
    }
}

#[test]
fn a_tag_is_another_for_another_file_or_another_host_and_else_the_same() {
    let tag = |content: &[u8], own| host_media(content, own).entity().tag;
    let one = content(512, 9);
    assert_eq!(tag(&one, 1), tag(&one, 1));
    assert_ne!(tag(&one, 1), tag(&one, 2));
    assert_ne!(tag(&one, 1), tag(&content(512, 10), 1));
}

#[test]
fn bare_media_is_the_area() {
    let media = Media::Bare.of_host(MediaKind::Efi, vec![9; AREA_SIZE], |_| String::new()).expect("an area");
    assert_eq!(media.pieces(10..AREA), [Piece::Area(10..AREA_SIZE)]);
    assert!(!Media::Bare.has(MediaKind::Initrd));
}

#[tokio::test]
async fn a_folder_gives_every_kind_and_a_script_that_names_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("writable");
    assert!(Media::open(folder.path()).is_err(), "an empty folder");
    write("rackwright-amd64.iso", &content(512, 0));
    assert!(!Media::open(folder.path()).expect("an ISO").has(MediaKind::Ipxe), "no kernel, no script");
    write("vmlinuz-amd64", b"kernel");
    write("initrd-amd64", &content(0, 20));
    write("boot.ipxe", b"#!ipxe\nkernel vmlinuz-amd64 initrd=initrd-amd64 console=ttyS1 quiet\ninitrd initrd-amd64\n");
    let media = Media::open(folder.path()).expect("a ramdisk");
    let of = |kind: MediaKind| media.of_host(kind, vec![9; AREA_SIZE], |kind| format!("/media/x.{}", kind.extension()));
    let bytes = async |kind| {
        let media = of(kind).expect("there");
        axum::body::to_bytes(media.body(0..media.entity().length), usize::MAX).await.expect("readable")
    };
    assert_eq!(bytes(MediaKind::Kernel).await, "kernel");
    assert!(!of(MediaKind::Kernel).expect("a kernel").is_own(&(0..6)));
    assert!(bytes(MediaKind::Initrd).await.starts_with(&[9]));
    assert!(of(MediaKind::Efi).is_none());
    assert_eq!(
        bytes(MediaKind::Ipxe).await,
        "#!ipxe\nkernel /media/x.kernel initrd=initrd.img console=ttyS1 quiet\n\
         initrd --name initrd.img /media/x.initrd\nboot\n"
    );
}
