package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Hook is what is done after a sink has taken a new version: one of Command,
// Signal and SystemdUnit.
type Hook struct {
	Command     []string      `yaml:"command" doc:"run this program, without a shell; it finds ITR_HOOK_TOKEN, ITR_HOOK_VERSION, ITR_HOOK_SINK and, of files, ITR_HOOK_PATH in its environment, and not the value"`
	Signal      *HookSignal   `yaml:"signal" doc:"send a signal to a process"`
	SystemdUnit *HookUnit     `yaml:"systemd_unit" doc:"restart or reload a unit that is running"`
	Timeout     time.Duration `yaml:"timeout" doc:"how long it may take (default 30s), then it and its children are killed and it is tried again"`
}

// HookSignal names a process by the file that holds its number.
type HookSignal struct {
	PIDFile string `yaml:"pid_file" check:"required,path" doc:"signal: file with the PID of the process"`
	Name    Signal `yaml:"name" check:"required" doc:"signal: its name, such as HUP"`
}

// HookUnit is a unit of systemd.
type HookUnit struct {
	Name   string `yaml:"name" check:"required" doc:"systemd_unit: its full name, such as nginx.service"`
	Action string `yaml:"action" check:"required,oneof=restart|reload" doc:"systemd_unit: reload (restart where the unit cannot reload) or restart; one that is not running is left alone"`
}

const (
	defaultHookTimeout = 30 * time.Second
	maxHookTimeout     = time.Hour
)

// checkHook checks what stands at key on_change of a sink, and fills in what
// was left out.
func (d *decoder) checkHook(n ast.Node, h *Hook, path string, at place) {
	path = join(path, "on_change")
	problem := func(key, problem string) {
		where := "on_change"
		if key != "" {
			where += "." + key
		}
		d.fail(d.locate(n, where, at), join(path, key), problem)
	}
	given := 0
	for _, is := range []bool{len(h.Command) > 0, h.Signal != nil, h.SystemdUnit != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		d.fail(d.locate(n, "on_change", at), path, "must have one of command, signal, systemd_unit")
	}
	if len(h.Command) > 0 && h.Command[0] == "" || slices.ContainsFunc(h.Command, hasNUL) {
		problem("command", "begins with an empty word, or holds a NUL: write a program and its arguments")
	}
	if u := h.SystemdUnit; u != nil && !validUnit(u.Name) {
		problem("systemd_unit.name", fmt.Sprintf("%q is not the full name of a unit, such as nginx.service", u.Name))
	}
	if h.Timeout < 0 || h.Timeout > maxHookTimeout {
		problem("timeout", "must be more than 0 and at most "+short(maxHookTimeout))
	}
	if h.Timeout == 0 {
		h.Timeout = defaultHookTimeout
	}
}

func hasNUL(s string) bool { return strings.ContainsRune(s, 0) }

// validUnit: systemd.unit(5) lists the characters of a name. An option of
// systemctl begins with a dash.
func validUnit(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	if dot < 1 || dot == len(name)-1 || len(name) > 255 || name[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return !isAlnum(r) && !strings.ContainsRune(`:-_.\@`, r) })
}
