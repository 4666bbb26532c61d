// Package kind has kind's own code read kind-config.yaml. No container engine is needed: a script stands in for docker,
// writes down what it is asked, and refuses to run anything.
package kind

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/log"
)

const docker = `#!/bin/sh
echo "$*" >> "$DOCKER_CALLS"
case "$1" in
  info) echo '{"CgroupDriver":"systemd","CgroupVersion":"2","MemoryLimit":true,"PidsLimit":true,"CPUShares":true}' ;;
  run) echo 'this docker runs nothing' >&2; exit 1 ;;
esac
`

// create asks kind for a cluster; it gives what docker was asked to do, and the error.
func create(t *testing.T, config cluster.CreateOption) (string, error) {
	t.Helper()
	folder := t.TempDir()
	calls := filepath.Join(folder, "calls")
	if err := os.WriteFile(filepath.Join(folder, "docker"), []byte(docker), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CALLS", calls)
	t.Setenv("PATH", folder+":/usr/bin:/bin")
	kubeconfig := cluster.CreateWithKubeconfigPath(filepath.Join(folder, "kubeconfig"))
	provider := cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(log.NoopLogger{}))
	err := provider.Create("", config, kubeconfig)
	asked, _ := os.ReadFile(calls)
	return string(asked), err
}

func TestTheConfigIsTakenAndPublishesTheBootService(t *testing.T) {
	asked, _ := create(t, cluster.CreateWithConfigFile("../../kind-config.yaml"))
	run := ""
	for _, line := range strings.Split(asked, "\n") {
		if strings.HasPrefix(line, "run ") {
			run = line
		}
	}
	for _, want := range []string{"--name rackwright-control-plane", "--publish=0.0.0.0:8443:30443/TCP"} {
		if !strings.Contains(run, want) {
			t.Errorf("docker is not asked for %q:\n%s", want, asked)
		}
	}
}

func TestAConfigWithAMistakeIsRefusedBeforeAnythingRuns(t *testing.T) {
	good, err := os.ReadFile("../../kind-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(string(good), "containerPort", "containerport", 1)
	asked, err := create(t, cluster.CreateWithRawConfig([]byte(bad)))
	if err == nil || !strings.Contains(err.Error(), "containerport") {
		t.Errorf("the mistake is not named: %v", err)
	}
	if strings.Contains(asked, "run ") {
		t.Errorf("docker was asked to run something:\n%s", asked)
	}
}
