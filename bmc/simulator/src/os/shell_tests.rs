use super::*;

fn read(script: &str) -> Vec<(When, Vec<String>, Option<String>)> {
    let variables = BTreeMap::from([("NAME".to_string(), "node-1".to_string())]);
    let steps = parse(script).expect("readable script");
    steps
        .into_iter()
        .map(|step| {
            let words = step.words.iter().map(|word| word.expand(&variables)).collect();
            let output = step
                .output
                .map(|out| format!("{} {}", if out.append { ">>" } else { ">" }, out.path.expand(&variables)));
            (step.when, words, output)
        })
        .collect()
}

fn step(when: When, words: &[&str], output: Option<&str>) -> (When, Vec<String>, Option<String>) {
    (when, words.iter().map(ToString::to_string).collect(), output.map(String::from))
}

#[test]
fn what_the_kubeadm_bootstrap_provider_writes_is_two_steps() {
    let steps = read(
        "kubeadm init --config /run/kubeadm/kubeadm.yaml  && echo success > /run/cluster-api/bootstrap-success.complete",
    );
    assert_eq!(
        steps,
        [
            step(When::Always, &["kubeadm", "init", "--config", "/run/kubeadm/kubeadm.yaml"], None),
            step(When::Succeeded, &["echo", "success"], Some("> /run/cluster-api/bootstrap-success.complete")),
        ]
    );
}

#[test]
fn quotes_variables_and_separators_are_read_as_a_shell_reads_them() {
    for (script, expected) in [
        ("echo 'a b' \"c $NAME\"", vec![step(When::Always, &["echo", "a b", "c node-1"], None)]),
        ("echo a'b'\"c\"", vec![step(When::Always, &["echo", "abc"], None)]),
        ("echo '$NAME' ''", vec![step(When::Always, &["echo", "$NAME", ""], None)]),
        ("echo ${NAME}x >> /f", vec![step(When::Always, &["echo", "node-1x"], Some(">> /f"))]),
        (
            "a; b\nc # d",
            vec![step(When::Always, &["a"], None), step(When::Always, &["b"], None), step(When::Always, &["c"], None)],
        ),
        ("a || b", vec![step(When::Always, &["a"], None), step(When::Failed, &["b"], None)]),
        ("a >/dev/null 2>&1", vec![step(When::Always, &["a"], Some("> /dev/null"))]),
        ("a 2>/dev/null", vec![step(When::Always, &["a"], None)]),
        ("a \\\n b", vec![step(When::Always, &["a", "b"], None)]),
        ("a &&\n b", vec![step(When::Always, &["a"], None), step(When::Succeeded, &["b"], None)]),
        ("\n# only a comment\n", vec![]),
    ] {
        assert_eq!(read(script), expected, "{script:?}");
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (script, message) in [
        ("curl x | sh", "a pipe is not supported by the simulated shell"),
        ("echo $(hostname)", "this use of \"$\" is not supported by the simulated shell"),
        ("echo `hostname`", "a command substitution is not supported by the simulated shell"),
        ("if true; then echo; fi", "\"if\" is not supported by the simulated shell"),
        ("sleep 1 &", "\"&\" is not supported by the simulated shell"),
        ("echo 'a", "syntax error: a quote is not closed"),
        ("a && ", "syntax error: nothing follows && or ||"),
        ("&& a", "syntax error: a command is missing"),
        ("echo >", "syntax error: a redirection without a file"),
    ] {
        assert_eq!(parse(script).expect_err(script).to_string(), message);
    }
}
