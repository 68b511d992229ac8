package daemon

import (
	"os"
	"strings"
	"testing"

	"iam-token-refresher/refresher/config"
)

func TestEveryFlagLeadsToAnOptionThatExists(t *testing.T) {
	t.Parallel()
	if err := config.CheckFlags(Kinds()); err != nil {
		t.Error(err)
	}
}

// The checks between options find their way by these methods; a signature that
// is off by a word would switch them off in silence.
func TestOptionsTellWhatTheyShareAndWrite(t *testing.T) {
	t.Parallel()
	k := Kinds()
	for _, name := range []string{"file", "env_file", "proxy"} {
		if _, ok := k.Sinks[name].New().(config.Writes); !ok {
			t.Errorf("%s does not tell what it writes", name)
		}
	}
	for _, name := range []string{"socket", "metadata"} {
		o := k.Sinks[name].New()
		if _, ok := o.(config.Shares); !ok {
			t.Errorf("%s does not tell what it shares", name)
		}
		if _, ok := o.(config.Defaults); !ok {
			t.Errorf("%s does not tell whether it is the default", name)
		}
	}
	for name, kind := range k.Sources {
		if _, ok := kind.New().(sourceOptions); !ok {
			t.Errorf("%s cannot be built", name)
		}
	}
	for name, kind := range k.Probes {
		if _, ok := kind.New().(probeOptions); !ok {
			t.Errorf("%s cannot be built", name)
		}
	}
}

func TestTheReadmeHoldsTheReference(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), strings.TrimSpace(config.Reference(Kinds()))) {
		t.Error("the configuration reference in README.md is not what the options say: make generate")
	}
}
