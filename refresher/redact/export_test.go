package redact

import "iam-token-refresher/refresher"

// Add makes the filter look for v until as many calls of [Filter.Remove].
func (f *Filter) Add(v refresher.Value) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(v)
}

func (f *Filter) Remove(v refresher.Value) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remove(v)
}
