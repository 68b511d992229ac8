package peer

import "testing"

func TestTheOverflowIDMatchesNothing(t *testing.T) {
	t.Parallel()
	all := []uint32{Overflow}
	p := Anybody()
	p.groups = func() []uint32 { return all }
	if p.Is(Overflow) || p.In(all) || p.Admin() {
		t.Error("whoever has no number is somebody")
	}
}
