package emulator

import (
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Account is a service account or a person.
type Account struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Deleted bool   `json:"deleted"`
	// Tracker: the account has access to Tracker.
	Tracker bool `json:"tracker"`
	// Keys are the ids of its keys, sorted.
	Keys []string `json:"keys"`

	uid int64
}

// directory knows accounts, their keys and their rights. Safe for concurrent use.
type directory struct {
	mu        sync.RWMutex
	accounts  map[string]*Account
	keys      map[string]registeredKey
	mayBecome map[string][]string // account → accounts that it may impersonate
	subjects  map[string]string   // subject of the federation → account
}

type registeredKey struct {
	account string
	public  *rsa.PublicKey
}

func newDirectory(extra int) *directory {
	d := &directory{
		accounts:  make(map[string]*Account, extra+4),
		keys:      make(map[string]registeredKey, extra+1),
		mayBecome: map[string][]string{BotAccount: {TargetAccount}},
		subjects:  map[string]string{Subject: BotAccount},
	}
	d.add(BotAccount, "bot")
	d.add(TargetAccount, "target")
	d.add(OutsiderAccount, "outsider")
	d.add(Person, "person")
	d.accounts[OutsiderAccount].Tracker = false
	for i := 1; i <= extra; i++ {
		d.add(AccountID(i), fmt.Sprintf("account-%04d", i))
	}
	return d
}

// AccountID is the id of the nth account of [Options].Accounts, from 1.
func AccountID(n int) string { return fmt.Sprintf("aje%017d", n) }

func (d *directory) add(id, name string) {
	d.accounts[id] = &Account{
		ID: id, Name: name, Tracker: true,
		uid: 8_000_000_000_000_000 + int64(len(d.accounts)),
	}
}

// account returns a copy of what is known about an account, without its keys.
func (d *directory) account(id string) (Account, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a := d.accounts[id]
	if a == nil {
		return Account{}, false
	}
	return *a, true
}

// alive tells whether the account exists and is not deleted.
func (d *directory) alive(id string) bool {
	a, ok := d.account(id)
	return ok && !a.Deleted
}

func (d *directory) list() []Account {
	d.mu.RLock()
	defer d.mu.RUnlock()
	byID := make(map[string]*Account, len(d.accounts))
	out := make([]Account, 0, len(d.accounts))
	for _, a := range d.accounts {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b Account) int { return strings.Compare(a.ID, b.ID) })
	for i := range out {
		out[i].Keys = []string{}
		byID[out[i].ID] = &out[i]
	}
	for id, k := range d.keys {
		byID[k.account].Keys = append(byID[k.account].Keys, id)
	}
	for i := range out {
		slices.Sort(out[i].Keys)
	}
	return out
}

// change applies f to an account that exists.
func (d *directory) change(id string, f func(*Account)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.accounts[id]
	if a == nil {
		return fmt.Errorf("there is no account %q", id)
	}
	f(a)
	return nil
}

func (d *directory) key(id string) (registeredKey, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	k, ok := d.keys[id]
	return k, ok
}

func (d *directory) addKey(id string, k registeredKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys[id] = k
}

func (d *directory) deleteKey(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.keys[id]
	delete(d.keys, id)
	return ok
}

func (d *directory) mayImpersonate(who, whom string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Contains(d.mayBecome[who], whom)
}

func (d *directory) allowImpersonation(who, whom string, allowed bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range []string{who, whom} {
		if d.accounts[id] == nil {
			return fmt.Errorf("there is no account %q", id)
		}
	}
	d.mayBecome[who] = slices.DeleteFunc(d.mayBecome[who], func(id string) bool { return id == whom })
	if allowed {
		d.mayBecome[who] = append(d.mayBecome[who], whom)
	}
	return nil
}

func (d *directory) linkedAccount(subject string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.subjects[subject]
}

func (d *directory) link(subject, account string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.accounts[account] == nil {
		return fmt.Errorf("there is no account %q", account)
	}
	d.subjects[subject] = account
	return nil
}

// Accounts lists all accounts, sorted by id.
func (e *Emulator) Accounts() []Account { return e.dir.list() }

// DeleteAccount deletes an account: it gets no tokens, and those that it has
// are refused until [Emulator.RestoreAccount].
func (e *Emulator) DeleteAccount(id string) error {
	return e.dir.change(id, func(a *Account) { a.Deleted = true })
}

// RestoreAccount undoes [Emulator.DeleteAccount].
func (e *Emulator) RestoreAccount(id string) error {
	return e.dir.change(id, func(a *Account) { a.Deleted = false })
}

// SetTrackerAccess says whether an account may use Tracker: if not, 403.
func (e *Emulator) SetTrackerAccess(id string, allowed bool) error {
	return e.dir.change(id, func(a *Account) { a.Tracker = allowed })
}

// AllowImpersonation says whether one account may get tokens for another.
func (e *Emulator) AllowImpersonation(who, whom string, allowed bool) error {
	return e.dir.allowImpersonation(who, whom, allowed)
}

// LinkSubject links a subject of the federation to an account.
func (e *Emulator) LinkSubject(subject, account string) error { return e.dir.link(subject, account) }
