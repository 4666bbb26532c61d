//! The answers for installers: as a whole, against hostile text, and before those who wrote the readers.

mod common;

use common::install::{DISK, all, answers, content, install, parse, written};
use insta::assert_snapshot;
use proptest::prelude::*;
use rackwright_bootstrap::RenderError;
use rackwright_bootstrap::installer::{
    Address, Answers, Install, Kickstart, Preseed, VARIABLES, Wanted, check_template, render,
};
use std::process::Command;

/// Base64 tells a reviewer nothing.
fn shortened(text: &str) -> String {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line == "RACKWRIGHT-END" {
            inside = false;
        }
        if !inside {
            lines.push(line);
        }
        if !inside && line.starts_with("base64 -d") {
            inside = true;
            lines.push("(base64)");
        }
    }
    lines.join("\n")
}

#[test]
fn the_answers_as_a_whole() {
    for (name, install) in all() {
        let Answers { files, command_line } = render(&install).expect(name);
        let files = files.iter().map(|(path, content)| format!("\n===== {path}\n{}\n", shortened(content)));
        assert_snapshot!(name, format!("{command_line}\n{}", files.collect::<String>()));
    }
}

#[test]
fn the_data_stand_where_cloud_init_reads_them_whatever_the_installer() {
    let kickstart = render(&install()).expect("renders");
    let sections = parse(content(&kickstart, "/ks.cfg")).sections;
    let [seed, done, failed] = sections.as_slice() else { panic!("{} sections", sections.len()) };
    assert_eq!(seed.0, "%post --erroronfail");
    assert_eq!(done.0, "%post --nochroot --erroronfail");
    assert_eq!(failed.0, "%onerror");
    let mirror = Preseed::Mirror { host: "a".into(), directory: "/d".into(), suite: None, packages: vec![] };
    let debian = answers(Wanted::Preseed(mirror));
    for script in [seed.1.join("\n"), content(&debian, "/rackwright/seed.sh").to_owned()] {
        let files = written(&script);
        assert_eq!(files["/var/lib/cloud/seed/nocloud/user-data"], install().user_data);
        assert_eq!(files["/var/lib/cloud/seed/nocloud/meta-data"], install().meta_data);
    }
}

#[test]
fn the_disk_stands_nowhere_but_where_the_caller_says() {
    let marked = Install { disk: "@RACKWRIGHT_DISK@".into(), ..install() };
    let Answers { files, command_line } = render(&marked).expect("renders");
    assert!(command_line.contains(" rackwright.disk=@RACKWRIGHT_DISK@ "), "{command_line}");
    let kickstart = &files[0].1;
    assert!(kickstart.contains("ignoredisk --only-use=\"@RACKWRIGHT_DISK@\"\n"));
    let done = Install { report: marked.report.clone(), ..install() };
    let there = render(&done).expect("renders").files[0].1.clone();
    assert_eq!(kickstart.replace("@RACKWRIGHT_DISK@", DISK), there, "putting the path in is all that is left to do");
}

#[test]
fn a_persons_own_poweroff_or_reboot_does_not_count() {
    let answers = answers(Wanted::Kickstart(Kickstart::Own("reboot --eject\n".into())));
    assert_eq!(parse(content(&answers, "/ks.cfg")).commands, ["reboot --eject", "poweroff"]);
}

#[test]
fn a_template_may_name_every_variable_and_no_other() {
    let known: String = VARIABLES.iter().map(|(name, _)| format!("# {{{{ {name} }}}}\n")).collect();
    assert_eq!(check_template(&Wanted::Kickstart(Kickstart::Own(known.clone()))), Ok(()));
    assert_eq!(check_template(&Wanted::Preseed(Preseed::Own(known))), Ok(()));
    let refused = check_template(&Wanted::Preseed(Preseed::Own("a\n{{ user_data }}\n".into())));
    let RenderError { field, why } = refused.expect_err("user-data is not for templates");
    assert_eq!(field, "preseed");
    assert!(why.starts_with("line 2: names what is not known; known are disk, hostname, "), "{why}");
}

#[test]
fn a_template_that_would_keep_the_boot_service_busy_is_refused() {
    let loops = "{% for a in disk %}".repeat(6) + &"{% endfor %}".repeat(6);
    let grows = format!("{{% for a in disk %}}{{% for b in disk %}}{}{{% endfor %}}{{% endfor %}}", "x".repeat(2000));
    for (template, expected) in [(loops, "takes too many steps"), (grows, "renders to more than 524288 bytes")] {
        let refused = check_template(&Wanted::Kickstart(Kickstart::Own(template))).expect_err(expected);
        assert!(refused.why.contains(expected), "{}", refused.why);
    }
}

#[test]
fn what_cannot_be_installed_is_refused_with_its_field() {
    let own = |text: &str| Wanted::Kickstart(Kickstart::Own(text.into()));
    let own_preseed = |text: &str| Wanted::Preseed(Preseed::Own(text.into()));
    let packages =
        |url: &str, name: &str| Wanted::Kickstart(Kickstart::Packages { url: url.into(), names: vec![name.into()] });
    let mirror = |suite: &str| {
        let suite = Some(suite.to_owned());
        Wanted::Preseed(Preseed::Mirror { host: "a".into(), directory: "/d".into(), suite, packages: vec![] })
    };
    let wanted = |wanted| Install { wanted, ..install() };
    let address = |address: &str, vlan| Some(Address { address: address.into(), gateway: None, dns: vec![], vlan });
    for (install, field, why) in [
        (wanted(own("%post\necho\n")), "kickstart", "line 1: the section %post does not end with %end"),
        (wanted(own("lang en\n%end\n")), "kickstart", "line 2: %end closes no section"),
        (wanted(own("a\r\n")), "kickstart", "holds Windows line ends"),
        (wanted(own("%post\necho \u{b}%end\n")), "kickstart", "holds the character '\\u{b}'"),
        (wanted(own_preseed("d-i a b c \\")), "preseed", "ends with a backslash"),
        (
            wanted(own_preseed("d-i preseed/late_command string true\n")),
            "preseed",
            "must end with `sh /rackwright/late",
        ),
        (wanted(packages("http://m/\" --x=\"", "a")), "kickstart.packages.url", "is not one word"),
        (wanted(packages("http://m/", "%end")), "kickstart.packages.names", "is not the name of a package"),
        (wanted(mirror("--x")), "preseed.mirror.suite", "is not one word"),
        (Install { hostname: "a b".into(), ..install() }, "hostname", "is not a DNS name"),
        (Install { boot_mac: "x".into(), ..install() }, "bootMACAddress", "is not six"),
        (Install { disk: "/dev/a b".into(), ..install() }, "rootDevice", "is not one word"),
        (Install { kernel_arguments: vec!["a b".into()], ..install() }, "installer.kernelArguments", "is one word"),
        (
            Install { kernel_arguments: vec!["x".repeat(1900)], ..install() },
            "installer.kernelArguments",
            "a kernel takes",
        ),
        (Install { address: address("10.0.0.1", None), ..install() }, "ramdisk.network.address", "is not an address"),
        (
            Install { wanted: mirror("sid"), address: address("10.0.0.1/8", Some(5)), ..install() },
            "ramdisk.network.vlan",
            "cannot be given a VLAN",
        ),
    ] {
        let refused = render(&install).err().unwrap_or_else(|| panic!("{field}: {why}"));
        assert_eq!(refused.field, field);
        assert!(refused.why.contains(why), "{}", refused.why);
    }
}

/// Text made of what a kickstart, a preseed, Python's shlex and shells give a meaning to.
fn nasty() -> impl Strategy<Value = String> {
    let marks = prop::sample::select(vec![
        "%end",
        "\n%end\n",
        "%post",
        "%include /etc/shadow",
        "\n",
        "\r",
        "\r\n",
        "\u{b}",
        "\u{85}",
        "\u{2028}",
        "'",
        "\"",
        "\\",
        "`id`",
        "$(id)",
        "${x}",
        ";",
        "&&",
        "|",
        "#",
        " ",
        "\t",
        "RACKWRIGHT-END",
        "\nRACKWRIGHT-END\n",
        "{{ disk }}",
        "{% raw %}",
        "--",
        "-",
        "@RACKWRIGHT_DISK@",
        "poweroff",
        "d-i x/y string z",
        "å",
        "🦀",
        "\0",
    ]);
    let piece = prop_oneof![3 => marks.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

/// What `sh` writes to its output when it runs `script` with `curl` and the new system stood in for.
fn words_of(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

proptest! {
    #[test]
    fn data_arrive_as_written_and_never_leave_their_section(user_data in nasty(), meta_data in nasty(), token in nasty()) {
        let plain = parse(&render(&install()).expect("renders").files[0].1);
        let mut input = Install { user_data: user_data.clone(), meta_data: meta_data.clone(), ..install() };
        input.report.token = token.chars().filter(|c| !c.is_control() && !"\u{2028}\u{2029}".contains(*c)).collect();

        let kickstart = render(&input).expect("renders").files[0].1.clone();

        let parsed = parse(&kickstart);
        prop_assert_eq!(&parsed.commands, &plain.commands);
        let headers = |parsed: &common::install::Parsed| parsed.sections.iter().map(|(header, _)| header.clone()).collect::<Vec<_>>();
        prop_assert_eq!(headers(&parsed), headers(&plain));
        let seed = written(&parsed.sections[0].1.join("\n"));
        prop_assert_eq!(&seed["/var/lib/cloud/seed/nocloud/user-data"], &user_data);
        prop_assert_eq!(&seed["/var/lib/cloud/seed/nocloud/meta-data"], &meta_data);
        let done = written(&parsed.sections[1].1.join("\n"));
        prop_assert_eq!(&done["$folder/header"], &format!("Authorization: Bearer {}\n", input.report.token));
    }

    #[test]
    fn a_field_is_refused_or_stays_one_word(text in nasty(), which in 0..9_usize) {
        let setup = |osname: &str, url: &str, reference: &str| Kickstart::OstreeSetup {
            osname: osname.into(), url: url.into(), reference: reference.into(), gpg: true,
        };
        let container = |url: &str, transport: Option<&str>, stateroot: Option<&str>| Kickstart::OstreeContainer {
            url: url.into(),
            transport: transport.map(Into::into),
            stateroot: stateroot.map(Into::into),
            remote: None,
            signature_verification: true,
        };
        let of = |text: &str| Wanted::Kickstart(match which {
            0 => setup(text, "u", "r"),
            1 => setup("o", text, "r"),
            2 => setup("o", "u", text),
            3 => container(text, None, None),
            4 => container("u", Some(text), None),
            5 => container("u", None, Some(text)),
            6 => Kickstart::Packages { url: text.into(), names: vec![] },
            7 => Kickstart::Packages { url: "u".into(), names: vec![text.into()] },
            _ => return Wanted::Preseed(Preseed::Mirror {
                host: text.into(), directory: "/d".into(), suite: Some(text.into()), packages: vec![text.into()],
            }),
        });
        let plain = answers(of("x"));
        let Ok(rendered) = render(&Install { wanted: of(&text), ..install() }) else { return Ok(()) };
        for ((path, plain), (_, rendered)) in plain.files.iter().zip(&rendered.files) {
            prop_assert_eq!(plain.lines().count(), rendered.lines().count(), "{}: {}", path, rendered);
            if path == "/ks.cfg" {
                let (plain, rendered) = (parse(plain), parse(rendered));
                prop_assert_eq!(plain.commands.len(), rendered.commands.len());
                prop_assert_eq!(plain.sections.len(), rendered.sections.len());
            }
        }
    }

    #[test]
    fn a_fact_is_refused_or_means_nothing_to_a_shell(region in nasty()) {
        let mut input = Install { wanted: Wanted::Kickstart(Kickstart::Own("%post\necho {{ region }}\n%end\n".into())), ..install() };
        input.facts.insert("region".into(), region.clone());
        let Ok(rendered) = render(&input) else { return Ok(()) };
        let parsed = parse(&rendered.files[0].1);
        prop_assert_eq!(&parsed.sections[0].1, &vec![format!("echo {region}")]);
        prop_assert!(!region.contains(['$', '`', ';', '&', '|', '\'', '"', '\\', '#', '%', '\n']), "{}", region);
    }

    #[test]
    fn whatever_a_template_says_what_ends_the_installation_stays_whole(own in nasty()) {
        let Ok(rendered) = render(&Install { wanted: Wanted::Kickstart(Kickstart::Own(own)), ..install() }) else { return Ok(()) };
        let parsed = parse(&rendered.files[0].1);
        prop_assert_eq!(parsed.commands.last().map(String::as_str), Some("poweroff"));
        let plain = parse(&answers(Wanted::Kickstart(Kickstart::Own(String::new()))).files[0].1);
        prop_assert!(parsed.sections.ends_with(&plain.sections));
    }
}

#[test]
fn what_the_scripts_hand_to_curl_is_what_the_caller_gave() {
    let hostile = r#"{"a":"it's $(id) `id` \" %end"}"#;
    let mut input = install();
    input.report.done = hostile.into();
    input.report.url = "https://[::1]:8443/v1/installed?a='b'&c=$(id)".into();
    let answers = render(&input).expect("renders");
    let done = parse(content(&answers, "/ks.cfg")).sections[1].1.join("\n");
    let curl = "curl() { cat \"$folder/body\"; echo; cat \"$folder/header\"; for last in \"$@\"; do :; done; echo \"$last\"; }\n";
    let told = words_of(&format!("{curl}{done}"));
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines, [hostile, "Authorization: Bearer c2VjcmV0", input.report.url.as_str()]);
}

/// pykickstart's own verdict.
#[test]
#[ignore = "needs ksvalidator: cargo xtask test"]
fn ksvalidator_takes_every_kickstart() {
    let program =
        std::env::var("RACKWRIGHT_KSVALIDATOR").expect("RACKWRIGHT_KSVALIDATOR names pykickstart's ksvalidator");
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = 0;
    for (name, install) in all() {
        let answers = render(&install).expect(name);
        let Some((_, kickstart)) = answers.files.iter().find(|(path, _)| path == "/ks.cfg") else { continue };
        let file = folder.path().join(name);
        std::fs::write(&file, kickstart).expect("written");
        for version in ["RHEL9", "RHEL10", "F40", "F42"] {
            if version == "RHEL9" && kickstart.contains("ostreecontainer") && !kickstart.contains("--no-signature") {
                continue;
            }
            let output =
                Command::new(&program).args(["-e", "-v", version]).arg(&file).output().expect("ksvalidator runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}, {version}: {said}");
        }
        seen += 1;
    }
    assert_eq!(seen, 4);
}

/// debconf's own verdict.
#[test]
#[ignore = "needs debconf: cargo xtask test"]
fn debconf_takes_every_preseed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = 0;
    for (name, install) in all() {
        let answers = render(&install).expect(name);
        let Some((_, preseed)) = answers.files.iter().find(|(path, _)| path == "/preseed.cfg") else { continue };
        let file = folder.path().join(name);
        std::fs::write(&file, preseed).expect("written");
        let output = Command::new("debconf-set-selections").arg("-c").arg(&file).output();
        let output = output.expect("debconf-set-selections runs (Debian: package debconf)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}
