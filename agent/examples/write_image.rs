//! `write_image URL DIGEST FORMAT DISK`: brings an image to a disk, or to a file in its place, as the ramdisk does. Prints
//! the seconds that writing took and those of reading back. `cargo xtask bench image` measures with it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use rackwright_agent::linux::disk::{FileDisk, Turn};
use rackwright_agent::{Failure, fetch_to_disk};
use rackwright_protocol::facts::ImageFormat;
use rackwright_protocol::plan::Image;
use std::path::Path;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, digest, format, disk] = &arguments[..] else {
        eprintln!("usage: write_image URL DIGEST raw|raw.gz|raw.zst|raw.xz DISK");
        return ExitCode::from(2);
    };
    match write(url, digest, format, Path::new(disk)).await {
        Ok([written, read]) => {
            println!("{written:.3} {read:.3}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn write(url: &str, digest: &str, format: &str, disk: &Path) -> Result<[f64; 2], Failure> {
    let format: ImageFormat = serde_json::from_value(format.into())
        .map_err(|why| Failure::new("PlanUnsupported", format!("{format}: {why}")))?;
    let image = Image { url: url.into(), digest: digest.into(), format };
    let opened = FileDisk::open(disk, 512, Turn::default()).await;
    let mut disk = opened.map_err(|why| Failure::new("DiskWriteFailed", why.to_string()))?;
    let (_, times) = fetch_to_disk(&image, &mut disk).await?;
    Ok(times.map(|time| time.as_secs_f64()))
}
