//! The client story against the scripted BMC: what the emulator's test tells for real, here in a moment.

use crate::fake::FakeBmc;
use rackwright_bmc::story::Story;
use std::time::Duration;

#[tokio::test]
async fn the_client_story_holds() {
    let bmc = FakeBmc::start().await;
    let story = Story {
        image: "https://10.0.0.1/media/one.img".into(),
        other_image: "https://10.0.0.1/media/other.img".into(),
        http_boot: true,
        patience: Duration::from_secs(1),
        poll_interval: Duration::from_millis(10),
    };
    story.tell(&*bmc.client().await).await.expect("told to the end");
}
