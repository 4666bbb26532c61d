//! A qcow2 image as simple as can be: version 3, clusters of 64 KiB, one table of each kind, nothing compressed.

/// `raw` in such an image; clusters of zeros are left out.
pub fn made_by_hand(raw: &[u8]) -> Vec<u8> {
    const CLUSTER: usize = 65536;
    let mut image = vec![0; 3 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(raw.len() as u64).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(CLUSTER as u64).to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    for (index, cluster) in raw.chunks(CLUSTER).enumerate() {
        if cluster.iter().any(|byte| *byte != 0) {
            let at = image.len() as u64;
            image[2 * CLUSTER + 8 * index..][..8].copy_from_slice(&at.to_be_bytes());
            image.extend_from_slice(cluster);
            image.resize(image.len().next_multiple_of(CLUSTER), 0);
        }
    }
    image
}
