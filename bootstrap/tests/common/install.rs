//! An installation to start from, and the readers of its answers that the tests believe.

use base64::{Engine, engine::general_purpose::STANDARD};
use rackwright_bootstrap::installer::{Answers, Install, Kickstart, Preseed, Report, Wanted, render};
use std::collections::BTreeMap;

/// The disk as the agent would have put it in.
pub const DISK: &str = "/dev/disk/by-path/pci-0000:00:04.0";

/// A node that is installed from an ostree in a container image.
pub fn install() -> Install {
    let facts = [
        ("host", "osl1-a01-u07"),
        ("unit", "7"),
        ("rack", "osl1-a01"),
        ("datacenter", "osl1"),
        ("region", "eu-north"),
        ("provider_id", "rackwright://metal/osl1-a01-u07/uid"),
    ];
    Install {
        wanted: Wanted::Kickstart(Kickstart::OstreeContainer {
            url: "quay.io/example/os:1".into(),
            transport: None,
            stateroot: None,
            remote: None,
            signature_verification: false,
        }),
        disk: DISK.into(),
        hostname: "web-1".into(),
        boot_mac: "52:54:00:12:34:56".into(),
        address: None,
        kernel_arguments: vec!["inst.stage2=http://mirror.example.com/fedora/".into()],
        user_data: "#cloud-config\nhostname: web-1\n".into(),
        meta_data: r#"{"instance-id":"uid","local-hostname":"web-1"}"#.into(),
        facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        report: Report {
            url: "https://10.1.0.5:8443/v1/installed".into(),
            ca_pem: include_str!("../data/ca.crt").into(),
            token: "c2VjcmV0".into(),
            done: format!(r#"{{"host":"osl1-a01-u07","event":{{"type":"deployed","device":"{DISK}"}}}}"#),
            failed: r#"{"host":"osl1-a01-u07","event":{"type":"failed","reason":"InstallFailed"}}"#.into(),
        },
    }
}

/// Answers of `wanted`.
pub fn answers(wanted: Wanted) -> Answers {
    render(&Install { wanted, ..install() }).expect("an installation that can be rendered")
}

/// Content of the file at `path`.
pub fn content<'a>(answers: &'a Answers, path: &str) -> &'a str {
    answers.files.iter().find(|(found, _)| found == path).map(|(_, content)| content.as_str()).expect("a file there")
}

/// A kickstart as pykickstart reads it (parser.py): commands, and sections with their lines.
pub struct Parsed {
    pub commands: Vec<String>,
    pub sections: Vec<(String, Vec<String>)>,
}

/// Takes a kickstart apart. Lines are those of Python's `str.splitlines`.
pub fn parse(kickstart: &str) -> Parsed {
    let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut parsed = Parsed { commands: vec![], sections: vec![] };
    let mut open = false;
    for line in kickstart.split(ends) {
        let first = line.split_whitespace().next().unwrap_or_default();
        match (open, first) {
            (true, "%end") => open = false,
            (true, _) => parsed.sections.last_mut().expect("one is open").1.push(line.to_owned()),
            (false, first) if first.is_empty() || first.starts_with('#') => {}
            (false, first) if first.starts_with('%') && !matches!(first, "%include" | "%ksappend") => {
                open = true;
                parsed.sections.push((line.to_owned(), vec![]));
            }
            (false, _) => parsed.commands.push(line.to_owned()),
        }
    }
    assert!(!open, "the last section is not closed");
    parsed
}

/// What a script's here-documents decode to, by the path they are written to.
pub fn written(script: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        let Some(path) = line.strip_prefix("base64 -d > \"").and_then(|rest| rest.split('"').next()) else { continue };
        let encoded: String = lines.by_ref().take_while(|line| *line != "RACKWRIGHT-END").collect();
        let bytes = STANDARD.decode(encoded).expect("base64");
        files.insert(path.to_owned(), String::from_utf8(bytes).expect("text"));
    }
    files
}

/// Every installation that a snapshot holds, by the snapshot's name.
pub fn all() -> Vec<(&'static str, Install)> {
    use rackwright_bootstrap::installer::Address;
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let own = |text: &str| Wanted::Kickstart(Kickstart::Own(text.into()));
    let address = Address {
        address: "10.1.0.7/24".into(),
        gateway: Some("10.1.0.1".into()),
        dns: texts(&["10.1.0.2", "10.1.0.3"]),
        vlan: None,
    };
    let tagged = Address { vlan: Some(12), dns: vec![], ..address.clone() };
    let six =
        Address { address: "fd00::7/64".into(), gateway: Some("fd00::1".into()), dns: texts(&["fd00::2"]), vlan: None };
    let setup = Wanted::Kickstart(Kickstart::OstreeSetup {
        osname: "fedora-iot".into(),
        url: "https://ostree.example.com/repo".into(),
        reference: "fedora/stable/x86_64/iot".into(),
        gpg: false,
    });
    let packages = Wanted::Kickstart(Kickstart::Packages {
        url: "http://mirror.example.com/fedora/os/".into(),
        names: texts(&["containerd", "@headless-management", "-plymouth"]),
    });
    let debian = Wanted::Preseed(Preseed::Mirror {
        host: "deb.debian.org".into(),
        directory: "/debian".into(),
        suite: Some("bookworm".into()),
        packages: texts(&["containerd"]),
    });
    let own_kickstart = "# for {{ host }} in {{ rack }}, {{ datacenter }}, {{ region }}\ntext\nlang en_US.UTF-8\nkeyboard us\n\
        timezone Europe/Oslo --utc\nrootpw --lock\nurl --url=http://mirror.example.com/fedora/os/\n\
        {% if address %}\nnetwork --bootproto=static --ip={{ address }} --gateway={{ gateway }}\n{% else %}\n\
        network --bootproto=dhcp --device={{ boot_mac }} --hostname={{ hostname }}\n{% endif %}\n\
        ignoredisk --only-use={{ disk }}\nclearpart --all --initlabel\nautopart --type=plain\nreboot\n\
        %packages\n@core\ncloud-init\ncurl\n%end\n%post\necho 100%\necho unit {{ unit }} > /etc/unit\n%end";
    let own_preseed = "d-i partman-auto/disk string {{ disk }}\nd-i netcfg/get_hostname string {{ hostname | upper }}\n\
        d-i preseed/late_command string echo {{ provider_id }} > /target/etc/provider; sh /rackwright/late.sh\n";
    vec![
        ("an_ostree_in_a_container_image", install()),
        ("an_ostree_of_a_repository", Install { wanted: setup, address: Some(address.clone()), ..install() }),
        ("packages", Install { wanted: packages, address: Some(tagged), ..install() }),
        ("a_kickstart_of_a_persons_own", Install { wanted: own(own_kickstart), ..install() }),
        ("debian", Install { wanted: debian.clone(), address: Some(address), kernel_arguments: vec![], ..install() }),
        ("debian_with_ipv6", Install { wanted: debian, address: Some(six), kernel_arguments: vec![], ..install() }),
        (
            "a_preseed_of_a_persons_own",
            Install {
                wanted: Wanted::Preseed(Preseed::Own(own_preseed.into())),
                kernel_arguments: vec![],
                ..install()
            },
        ),
    ]
}
