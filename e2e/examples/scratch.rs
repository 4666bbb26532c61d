use rackwright_e2e::*;
use rackwright_e2e::{
    accounts,
    network::{Everywhere, Port},
    objects,
    process::Launch,
};
use rackwright_simulator::{config::FleetConfig, fleet::Fleet};
use sha2::Digest;
use std::time::Duration;
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let programs = Programs::from_env()?;
    let bed = Bed::start(programs.clone(), Level::ClusterApi, Narrator::stdout()).await?;
    let f = bed.folder().to_path_buf();
    let pki = f.join("mypki");
    std::fs::create_dir_all(&pki)?;
    let cert = bed.plane.authority.server(&[bed.network.management()])?;
    let (crt, key) = cert.write(&pki, "boot")?;
    std::fs::write(pki.join("ca.pem"), bed.plane.authority.pem())?;
    let mut fc = FleetConfig::new(bed.network.octet(), f.join("fleet"))
        .with_rack("rack-a", 4)
        .with_rack("rack-b", 4)
        .with_rack("rack-c", 4);
    fc.listen_port = bed.network.everywhere(Everywhere::Bmcs);
    fc.media_ca = Some(bed.plane.authority.pem().to_string());
    fc.programs = Some(programs.bin.clone());
    fc.speed = 3.0;
    let fleet = Fleet::start(fc).await?;
    // image
    let img: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    let digest: String = sha2::Sha256::digest(&img).iter().map(|b| format!("{b:02x}")).collect();
    let listener = tokio::net::TcpListener::bind(bed.network.at(Port::Images)).await?;
    tokio::spawn(async move {
        axum::serve(
            listener,
            axum::Router::new().route(
                "/image.raw",
                axum::routing::get(move || {
                    let i = img.clone();
                    async move { i }
                }),
            ),
        )
        .await
    });
    let boot_addr = bed.network.at(Port::Boot);
    let mut y = format!(
        r#"
apiVersion: v1
kind: Secret
metadata: {{name: bmc, namespace: default}}
stringData: {{username: admin, password: {}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: bmc-ca, namespace: default}}
data:
  ca.crt: {}
---
apiVersion: rackwright.dev/v1alpha1
kind: Region
metadata: {{name: eu, namespace: default}}
spec: {{}}
---
apiVersion: rackwright.dev/v1alpha1
kind: Datacenter
metadata: {{name: dc, namespace: default}}
spec: {{region: eu, boot: {{url: "https://{boot_addr}"}}, hostDefaults: {{bmc: {{credentialsRef: {{name: bmc}}, trust: {{ca: {{name: bmc-ca, key: ca.crt}}}}}}}}}}
---
apiVersion: rackwright.dev/v1alpha1
kind: OSImage
metadata: {{name: debian, namespace: default}}
spec: {{kubernetesVersion: v1.36.3, disk: {{url: "http://{}/image.raw", digest: "sha256:{digest}"}}}}
"#,
        std::env::var("BMCPW").unwrap_or("simulated".into()),
        serde_json::to_string(fleet.ca_pem())?,
        bed.network.at(Port::Images)
    );
    for r in ["rack-a", "rack-b", "rack-c"] {
        y += &format!(
            "---\napiVersion: rackwright.dev/v1alpha1\nkind: Rack\nmetadata: {{name: {r}, namespace: default}}\nspec: {{datacenter: dc}}\n"
        );
    }
    for h in fleet.hosts() {
        y += &format!(
            "---\napiVersion: rackwright.dev/v1alpha1\nkind: Host\nmetadata: {{name: {}, namespace: default}}\nspec: {{rack: {}, unit: {}, bmc: {{address: \"{}\"}}, bootMACAddress: \"{}\", rootDevice: {{deviceName: /dev/nvme0n1}}}}\n",
            h.name, h.rack, h.unit, h.bmc_url, h.boot_mac
        );
    }
    objects::apply_all(&bed.client(), &y).await?;
    let logs = f.join("log");
    let inf = accounts::kubeconfig(&bed.plane, accounts::INFRASTRUCTURE, &f).await?;
    let boot = accounts::kubeconfig(&bed.plane, accounts::BOOT, &f).await?;
    let bs = accounts::kubeconfig(&bed.plane, accounts::BOOTSTRAP, &f).await?;
    let s = |p: &std::path::Path| p.display().to_string();
    let lv = "info,rackwright_controllers=debug,rackwright_boot=debug";
    let _m = Launch::new("manager", &programs.rackwright)
        .env("RUST_LOG", lv)
        .args([
            "manager".into(),
            "--controllers=infrastructure".into(),
            format!("--kubeconfig={}", s(&inf)),
            "--leader-elect=false".into(),
            format!("--health-addr={}", bed.network.at(Port::InfrastructureHealth)),
            format!("--metrics-addr={}", bed.network.at(Port::InfrastructureMetrics)),
            "--poll-busy-millis=500".into(),
            "--operation-seconds=60".into(),
            "--power-seconds=15".into(),
            "--poll-idle-seconds=5".into(),
        ])
        .start(&logs)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _b = Launch::new("boot", &programs.rackwright)
        .env("RUST_LOG", lv)
        .env("KUBECONFIG", &boot)
        .args([
            "boot".into(),
            format!("--listen={boot_addr}"),
            format!("--tls-cert-file={}", s(&crt)),
            format!("--tls-private-key-file={}", s(&key)),
            format!("--ca-file={}", s(&pki.join("ca.pem"))),
        ])
        .start(&logs)?;
    let _s = Launch::new("bsmanager", &programs.rackwright)
        .env("RUST_LOG", lv)
        .args([
            "manager".into(),
            "--controllers=bootstrap".into(),
            format!("--kubeconfig={}", s(&bs)),
            "--leader-elect=false".into(),
            format!("--health-addr={}", bed.network.at(Port::BootstrapHealth)),
            format!("--metrics-addr={}", bed.network.at(Port::BootstrapMetrics)),
        ])
        .start(&logs)?;
    println!("KUBECONFIG={} folder {}", bed.plane.admin.display(), f.display());
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let t = bed.kubectl(&["get", "hosts"]).await?;
        if t.matches("Available").count() == 12 {
            break;
        }
    }
    println!("{}", bed.kubectl(&["get", "hosts"]).await?);
    std::fs::write(
        "/tmp/scratch.env",
        format!(
            "export KUBECONFIG={} BED={} VIP={}\n",
            bed.plane.admin.display(),
            f.display(),
            bed.network.cluster_endpoint(1)
        ),
    )?;
    tokio::time::sleep(Duration::from_secs(std::env::var("KEEP").unwrap_or("600".into()).parse()?)).await;
    Ok(())
}
