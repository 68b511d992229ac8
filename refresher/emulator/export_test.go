package emulator

// Known is how many tokens the registry knows.
func Known(e *Emulator) int {
	e.tokens.mu.Lock()
	defer e.tokens.mu.Unlock()
	return len(e.tokens.byValue)
}
