package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink"
)

// Once refreshes every token once and returns when all of their files have
// what came of it and on_change was tried, retrying within ctx. It returns nil
// when every required token got there, and what stands at on_change of its
// files was done. Nothing is served and no program run.
func (d *Daemon) Once(ctx context.Context) error {
	if d.broken != nil {
		return d.broken
	}
	p := d.plan.Load()
	d.warn(p)
	end, err := d.start(p)
	if err != nil {
		return err
	}
	defer end()
	specs := slices.Clone(p.specs)
	for i, spec := range specs {
		specs[i].Sinks = slices.DeleteFunc(slices.Clone(spec.Sinks), func(s refresher.Sink) bool {
			_, served := s.(*sink.Endpoint)
			return served || sink.IsExec(s)
		})
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.refresher.Run(work, specs) }()
	var hooks sync.WaitGroup
	hooks.Go(func() { d.hooks.Run(work) })

	var mu sync.Mutex
	var problems []error
	var tokens sync.WaitGroup
	for _, spec := range specs {
		tokens.Go(func() {
			err := d.once(ctx, spec.Token)
			if err == nil || !spec.Required {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			problems = append(problems, fmt.Errorf("token %q: %w", spec.Token, err))
		})
	}
	tokens.Wait()
	problems = append(problems, d.hooks.Settle(ctx, func(token string) bool {
		return slices.ContainsFunc(specs, func(s refresher.Spec) bool { return s.Token == token && s.Required })
	}))
	cancel()
	hooks.Wait()
	problems = append(problems, <-ended)
	d.builder.logins.Wait(loginsTimeout)
	p.closeUnlike(&plan{})
	return errors.Join(problems...)
}

// once waits for a refresh of one token to succeed.
func (d *Daemon) once(ctx context.Context, token string) error {
	d.refresher.Request(token)
	_, err := d.refresher.Await(ctx, token, func(s refresher.Status) bool {
		switch s.Health {
		case refresher.Unchecked: // what an earlier run left is yet to be tried
			if s.DoubtSince.IsZero() {
				return false
			}
		case refresher.Revoked, refresher.Expired, refresher.NoAccess:
			return false
		}
		return s.Refreshes.Of(refresher.ResultPublished)+s.Refreshes.Of(refresher.ResultUnchanged) > 0 &&
			!slices.ContainsFunc(s.Sinks, func(s refresher.SinkStatus) bool { return !s.Current })
	})
	if err == nil || ctx.Err() == nil {
		return err
	}
	s, _ := d.refresher.Snapshot(token)
	return errors.New(unfinished(s))
}

// unfinished says why a token is not where once wants it.
func unfinished(s refresher.Status) string {
	if s.LastFailure != "" && !s.Candidate {
		return s.LastFailure
	}
	for _, sink := range s.Sinks {
		if !sink.Current && sink.Failure != "" {
			return sink.ID + ": " + sink.Failure
		}
	}
	if s.Reason == "" { // it has not even begun
		return "not finished in time"
	}
	return "not finished in time: " + s.Reason
}
