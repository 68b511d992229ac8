package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "iam-token-refresher"

// allowed is what each package may import of ours; a path stands for itself
// alone. Arrows go one way: cmd → daemon → adapters → refresher, and adapters
// do not know each other. Tests may import the emulator besides.
var allowed = map[string][]string{
	"refresher":            {},
	"refresher/atomicfile": {},
	"refresher/clock":      {"refresher"},
	"refresher/config":     {"refresher", "refresher/scrub", "refresher/textfile"},
	"refresher/emulator":   {},
	"refresher/httpanswer": {},
	"refresher/iam":        {"refresher", "refresher/httpanswer", "refresher/process", "refresher/scrub", "refresher/textfile"},
	"refresher/oauth":      {"refresher", "refresher/atomicfile", "refresher/httpanswer", "refresher/textfile"},
	"refresher/probe":      {"refresher", "refresher/httpanswer", "refresher/scrub", "refresher/template", "refresher/textfile"},
	"refresher/process":    {},
	"refresher/redact":     {"refresher", "refresher/scrub"},
	"refresher/scrub":      {},
	"refresher/simulation": {"refresher"},
	"refresher/status":     {"refresher"},
	"refresher/store":      {"refresher", "refresher/atomicfile"},
	"refresher/template":   {},
	"refresher/textfile":   {},
	"refresher/watch":      {},
	"sink":                 {"refresher", "refresher/atomicfile", "refresher/process", "refresher/template", "sink/peer", "sink/turns"},
	"sink/peer":            {},
	"sink/turns":           {"sink/peer"},

	"refresher/simulation/fleet": {"refresher", "refresher/config"},

	"refresher/daemon": {
		"refresher", "refresher/clock", "refresher/config", "refresher/iam", "refresher/oauth", "refresher/probe", "refresher/process", "refresher/redact",
		"refresher/status", "refresher/store", "refresher/textfile", "refresher/watch", "sink", "sink/turns",
	},
	"cmd/iam-token-refresher": {
		"refresher", "refresher/config", "refresher/daemon", "refresher/oauth", "refresher/probe", "refresher/redact",
		"refresher/status", "refresher/textfile", "sink",
	},
	"cmd/iam-emulator":  {"refresher/emulator"},
	"cmd/demo":          {},
	"kubernetes":        {},
	"kubernetes/reader": {},
	"systemd":           {},
	"systemd/man":       {},
}

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Standard                           bool
}

func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,TestImports,XTestImports,Standard"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.Bytes())
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestArrowsGoOneWay(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		may, known := allowed[name]
		if !known {
			t.Errorf("%s is not in the layout: add it to the table of arrows", name)
			continue
		}
		seen[name] = true
		check := func(kind string, imports []string, more ...string) {
			for _, i := range imports {
				target, ours := strings.CutPrefix(i, module+"/")
				if ours && target != name && !slices.Contains(may, target) && !slices.Contains(more, target) {
					t.Errorf("%s imports %s%s, which points the wrong way", name, target, kind)
				}
			}
		}
		check("", p.Imports)
		tests := []string{"refresher/emulator"}
		if strings.HasPrefix(name, "cmd/") { // they test whole programs
			tests = append(tests, "refresher/config", "refresher/daemon")
		}
		check(" in its tests", slices.Concat(p.TestImports, p.XTestImports), tests...)
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("%s is in the table of arrows and does not exist", name)
		}
	}
}

func TestTheDomainImportsTheStandardLibraryAlone(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "-deps", "./refresher") {
		if !p.Standard && p.ImportPath != module+"/refresher" {
			t.Errorf("refresher depends on %s", p.ImportPath)
		}
	}
}

func TestTheDaemonDoesNotContainTheEmulator(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "-deps", "./cmd/iam-token-refresher") {
		if p.ImportPath == path.Join(module, "refresher/emulator") {
			t.Error("the production binary contains the emulator")
		}
		if p.ImportPath == "github.com/yandex-cloud/go-sdk" || p.ImportPath == "testing" {
			t.Errorf("the production binary contains %s", p.ImportPath)
		}
	}
}
