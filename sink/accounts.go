package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/process"
)

// errNoAccount is what a lookup says of a name that it does not know.
var errNoAccount = errors.New("no such account")

// Accounts turns names of users and groups into numbers, and remembers what it
// was told, failures too: make new ones for each reading of the configuration.
// It may be used concurrently.
type Accounts struct {
	user, group func(name string) (int, error)

	mu    sync.Mutex
	known map[string]account // under "u" + name, "g" + name
}

// account is what a lookup said.
type account struct {
	id  int
	err error
}

// NewAccounts looks names up in the system's local files, then by the command
// getent, which knows what else the system is set up to ask. processes, which
// may be nil, starts it.
func NewAccounts(processes *process.Owner) *Accounts {
	return newAccounts(
		func(name string) (int, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return getent(processes, "passwd", name)
			}
			return strconv.Atoi(u.Uid)
		},
		func(name string) (int, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return getent(processes, "group", name)
			}
			return strconv.Atoi(g.Gid)
		})
}

func newAccounts(user, group func(string) (int, error)) *Accounts {
	return &Accounts{user: user, group: group, known: make(map[string]account)}
}

// UID returns the number of a user given by name or number, or -1 for the
// empty name. The error is a [*refresher.Invalid] for field.
func (a *Accounts) UID(field, name string) (int, error) {
	return a.resolve(field, "user", name, a.user)
}

// GID does for a group what [Accounts.UID] does for a user.
func (a *Accounts) GID(field, name string) (int, error) {
	return a.resolve(field, "group", name, a.group)
}

func (a *Accounts) resolve(field, kind, name string, lookup func(string) (int, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		if n >= 1<<32-1 {
			return 0, &refresher.Invalid{Field: field, Problem: fmt.Sprintf("%s is not a number of a %s: it means nobody", name, kind)}
		}
		return int(n), nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key := kind[:1] + name
	found, ok := a.known[key]
	if !ok {
		found.id, found.err = lookup(name)
		a.known[key] = found
	}
	switch {
	case errors.Is(found.err, errNoAccount):
		return 0, &refresher.Invalid{Field: field, Problem: fmt.Sprintf("there is no %s %q on this system: create it, or give its number", kind, name)}
	case found.err != nil:
		return 0, &refresher.Invalid{Field: field, Problem: fmt.Sprintf("look up the %s %q: %v: give its number instead", kind, name, found.err)}
	}
	return found.id, nil
}

// getent asks the C library's databases, which a static program cannot. Its
// exit status is 2 for a name that it does not find.
func getent(processes *process.Owner, database, name string) (int, error) {
	path, err := exec.LookPath("getent")
	if err != nil || strings.HasPrefix(name, "-") {
		return 0, errNoAccount
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, database, name)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = &out
	err = processes.Run(cmd, process.Phases{})
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 2 {
			return 0, errNoAccount
		}
		return 0, fmt.Errorf("getent %s: %w", database, err)
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	if fields := strings.Split(line, ":"); len(fields) > 2 {
		if id, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			return int(id), nil
		}
	}
	return 0, fmt.Errorf("getent %s: unexpected answer of %d bytes", database, out.Len())
}
