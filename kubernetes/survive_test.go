package kubernetes_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// reading is what the reader says of one way of reading.
type reading struct {
	Reads, Failures, Expired, Values int
	Error                            string
	Gap, Median, P99, Max            time.Duration
}

const readers = "-metadata 127.0.0.1:8775 -file /run/iam-token/token"

// reader brings the reader into the app's container.
func (s *scene) reader() {
	s.Helper()
	bin := filepath.Join(s.TempDir(), "reader")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", bin, "./reader")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.Fatalf("build the reader: %v\n%s", err, out)
	}
	content, err := os.ReadFile(bin)
	if err != nil {
		s.Fatal(err)
	}
	if out, err := s.feed(content, "-n", s.name, "exec", "-i", s.workload, "-c", "app", "--", "sh", "-c", "cat >/tmp/reader && chmod +x /tmp/reader"); err != nil {
		s.Fatal(out)
	}
}

// read makes the reader read in the background, so that it outlives what
// happens to the kubelet.
func (s *scene) read(args string) {
	s.Helper()
	s.shell("/tmp/reader " + args + " </dev/null >/tmp/report 2>&1 & echo $! >/tmp/pid")
}

// stopReading ends the reader and returns what it says.
func (s *scene) stopReading() map[string]reading {
	s.Helper()
	text := s.shell("kill $(cat /tmp/pid); while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.1; done; cat /tmp/report")
	var report map[string]reading
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		s.Fatalf("%v: %s", err, text)
	}
	return report
}

// restarted waits for the sidecar's next run, and for its readiness.
func (s *scene) restarted(before int) *pod {
	s.Helper()
	return s.await("a restart of the sidecar", time.Minute, func(p *pod) bool {
		c := p.sidecar()
		return c.RestartCount > before && c.State.Running != nil && c.Ready
	})
}

func TestACrashOfTheSidecarIsNoneOfTheApp(t *testing.T) {
	t.Parallel()
	s := cluster(t, emulator.Options{})
	s.apply("testdata/reader", s.settings(""), "")
	s.ready(time.Minute)
	s.reader()
	value := s.value()
	s.read(readers + " -for 5m")
	s.shell("kill -9 $(pidof iam-token-refresher)")
	p := s.restarted(0)
	report := s.stopReading()
	t.Logf("%+v", report)
	if f := report["file"]; f.Failures+f.Expired > 0 || f.Values != 1 {
		t.Errorf("the file's readers noticed: %+v", f)
	}
	if m := report["metadata"]; m.Gap > 2*time.Second+slack || m.Values != 1 {
		t.Errorf("the loopback's readers were without a token for long, or have another: %+v", m)
	}
	if s.value() != value {
		t.Error("the value is another one")
	}
	if c := p.app(); c.RestartCount != 0 || c.State.Running == nil {
		t.Errorf("the app was restarted: %+v", c)
	}
	want(t, "the log", s.log(), `"msg":"restored"`)
}

// slack is for a machine that does other things, too: the kubelet alone looks
// once a second. A second restart would wait for 10 s.
const slack = 6 * time.Second

func TestTheAppOutlivesAnOOMKill(t *testing.T) {
	t.Parallel()
	s := cluster(t, emulator.Options{})
	// Without a collector its memory grows with each read.
	s.apply("testdata/reader", s.settings(""), `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "any"}, "spec": {"template": {"spec": {"initContainers": [
		{"name": "iam-token-refresher", "env": [{"name": "GOGC", "value": "off"}, {"name": "GOMEMLIMIT", "value": "off"}], "resources": {"limits": {"cpu": "1"}}}]}}}}`)
	s.ready(time.Minute)
	s.reader()
	value := s.value()
	s.read(readers + " -rate 2000 -for 5m")
	p := s.await("the OOM killer", 2*time.Minute, func(p *pod) bool {
		last := p.sidecar().LastState.Terminated
		return last != nil && last.Reason == "OOMKilled"
	})
	report := s.stopReading()
	t.Logf("%+v", report)
	if f := report["file"]; f.Failures+f.Expired > 0 || f.Values != 1 {
		t.Errorf("the file's readers noticed: %+v", f)
	}
	s.restarted(p.sidecar().RestartCount - 1)
	if c := s.pod().app(); c.RestartCount != 0 || c.State.Running == nil {
		t.Errorf("the app was restarted: %+v", c)
	}
	if s.value() != value {
		t.Error("the value is another one")
	}
}

func TestDeletingThePodIsClean(t *testing.T) {
	t.Parallel()
	s := cluster(t, emulator.Options{})
	s.start("workload-identity")
	s.ready(time.Minute)
	name := s.pod().Metadata.Name
	// A finalizer keeps what became of the pod.
	s.in("patch", "pod", name, "-p", `{"metadata": {"finalizers": ["example.com/look"]}}`)
	s.in("delete", "pod", name, "--wait=false")
	var p pod
	s.await("its end", time.Minute, func(*pod) bool {
		p = pod{}
		if err := json.Unmarshal([]byte(s.in("get", "pod", name, "-o", "json")), &p); err != nil {
			t.Fatal(err)
		}
		return p.app().State.Terminated != nil && p.sidecar().State.Terminated != nil
	})
	s.in("patch", "pod", name, "-p", `{"metadata": {"finalizers": null}}`)
	app, sidecar := p.app().State.Terminated, p.sidecar().State.Terminated
	if app.ExitCode != 0 || sidecar.ExitCode != 0 {
		t.Errorf("the app ended with %d, the sidecar with %d", app.ExitCode, sidecar.ExitCode)
	}
	// One that did not end by itself would be killed at the end of the time.
	most := time.Duration(p.Spec.TerminationGracePeriodSeconds) * time.Second / 2
	if took := sidecar.FinishedAt.Sub(app.FinishedAt); took < 0 || took > most {
		t.Errorf("the sidecar ended %s after the app", took)
	}
}

// TestTheKubeletsRestartIsNoticedByNobody comes last and alone.
func TestTheKubeletsRestartIsNoticedByNobody(t *testing.T) {
	restart := strings.Fields(os.Getenv("KUBERNETES_RESTART"))
	if len(restart) == 0 {
		t.Skip("KUBERNETES_RESTART does not say how to restart the kubelet")
	}
	s := cluster(t, emulator.Options{})
	s.apply("testdata/reader", s.settings("", "ITR_SCHEDULE=@every 5s"), "")
	s.ready(time.Minute)
	s.reader()
	s.read(readers + " -for 5m")
	const workload = "cat /var/run/secrets/yandex.cloud/token"
	token := s.shell(workload)
	restarts := exec.Command(restart[0], restart[1:]...)
	if out, err := restarts.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.await("the node", time.Minute, func(*pod) bool {
		_, err := s.try("-n", s.name, "exec", s.workload, "-c", "app", "--", "true")
		return err == nil
	})
	// A new kubelet asks for another token of the service account: a rotation.
	s.await("the rotation of the workload's token", time.Minute, func(*pod) bool { return s.shell(workload) != token })
	before := len(s.cloud.Issued())
	s.await("refreshes with it", time.Minute, func(*pod) bool { return len(s.cloud.Issued()) > before+1 })
	report := s.stopReading()
	t.Logf("%+v", report)
	for way, r := range report {
		if r.Failures+r.Expired > 0 {
			t.Errorf("%s: %+v", way, r)
		}
	}
	// It takes all for unready until it has looked.
	if p := s.await("readiness", time.Minute, (*pod).isReady); p.app().RestartCount+p.sidecar().RestartCount != 0 {
		t.Errorf("the pod is not as it was: %+v", p.Status)
	}
}

func TestAHundredReadersASecondFitIntoTheLimits(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("KUBERNETES_LOAD"))
	if err != nil {
		long = time.Minute
	}
	lifetime := 60 * time.Second
	if long < 5*time.Minute {
		lifetime = 15 * time.Second
	}
	s := cluster(t, emulator.Options{TokenLifetime: lifetime})
	s.apply("testdata/reader", s.settings("", "ITR_PROBE_SCHEDULE=@every 10s"), "")
	s.ready(time.Minute)
	s.reader()
	s.read(readers + " -rate 100 -lifetime " + lifetime.String() + " -for 1h")
	begin := time.Now()
	var first, last usage
	for time.Since(begin) < long {
		<-time.After(min(long/6, 30*time.Second))
		last = s.usage()
		if first.at.Before(begin) { // the kubelet counts now and then, at first before there was a process
			first = last
		}
		t.Logf("%s: %s", time.Since(begin).Round(time.Second), last)
	}
	report := s.stopReading()
	for way, r := range report {
		t.Logf("%s: %+v", way, r)
		if r.Failures+r.Expired > 0 || r.Reads < int(long.Seconds())*50 {
			t.Errorf("%s: %+v", way, r)
		}
		if least := int(long / lifetime); r.Values < least {
			t.Errorf("%s: %d values, want at least %d", way, r.Values, least)
		}
	}
	p := s.pod()
	if p.sidecar().RestartCount != 0 {
		t.Errorf("%d restarts", p.sidecar().RestartCount)
	}
	if !last.at.After(first.at) {
		t.Errorf("its memory was counted once only, at %s", last.at)
	}
	if last.memory > first.memory+4<<20 {
		t.Errorf("its memory grew from %d to %d bytes", first.memory, last.memory)
	}
	warned := 0
	for line := range strings.Lines(s.log()) {
		if !strings.Contains(line, `"level":"INFO"`) {
			warned++
			t.Log(line)
		}
	}
	t.Logf("%d lines of the log are warnings", warned)
}

// usage is what the kubelet counts of the sidecar.
type usage struct {
	at                    time.Time // when the memory was counted
	memory, working, peak int
	cpu                   float64 // seconds
	throttled, periods    int
}

func (u usage) String() string {
	mib := func(n int) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB" }
	return "anonymous " + mib(u.memory) + ", working set " + mib(u.working) + ", highest " + mib(u.peak) + ", " +
		strconv.FormatFloat(u.cpu, 'f', 2, 64) + " s of CPU, throttled in " + strconv.Itoa(u.throttled) + " of " + strconv.Itoa(u.periods) + " periods"
}

func (s *scene) usage() (u usage) {
	s.Helper()
	p := s.pod()
	_, id, _ := strings.Cut(p.sidecar().ContainerID, "://")
	for line := range strings.Lines(s.do("get", "--raw", "/api/v1/nodes/"+p.Spec.NodeName+"/proxy/metrics/cadvisor")) {
		if !strings.Contains(line, id) { // in the path of its cgroup
			continue
		}
		name, rest, _ := strings.Cut(line, "{")
		fields := strings.Fields(rest[strings.LastIndexByte(rest, '}')+1:])
		value, _ := strconv.ParseFloat(fields[0], 64)
		switch name {
		case "container_memory_rss":
			u.memory = int(value)
			if len(fields) > 1 {
				stamp, _ := strconv.ParseInt(fields[1], 10, 64)
				u.at = time.UnixMilli(stamp)
			}
		case "container_memory_working_set_bytes":
			u.working = int(value)
		case "container_memory_max_usage_bytes":
			u.peak = int(value)
		case "container_cpu_usage_seconds_total":
			u.cpu += value
		case "container_cpu_cfs_throttled_periods_total":
			u.throttled = int(value)
		case "container_cpu_cfs_periods_total":
			u.periods = int(value)
		}
	}
	return u
}
