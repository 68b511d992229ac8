package refresher

import "testing"

func TestJobsLeaveTheirQueueInOrderAndWithoutATrace(t *testing.T) {
	t.Parallel()
	var q queue[func()]
	var ran []int
	for i := range 3 {
		q.push(func() { ran = append(ran, i) })
	}
	all := q
	for len(q) > 0 {
		q.pop()()
	}
	if len(ran) != 3 || ran[0] != 0 || ran[1] != 1 || ran[2] != 2 {
		t.Errorf("ran %v", ran)
	}
	for i, job := range all {
		if job != nil {
			t.Errorf("job %d is still held, with the value that it is about", i)
		}
	}
	if q != nil {
		t.Error("the empty queue holds on to its room")
	}
}
