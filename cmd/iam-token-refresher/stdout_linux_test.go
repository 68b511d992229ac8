package main

import (
	"os"
	"strings"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

func TestAnswerThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{})
		s.ready()
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		s.try(err)
		defer full.Close()
		config := s.path("bot.yaml")
		for _, line := range []string{
			"help", "--help", "run --help", "help get", "version", "version -o json",
			"config schema", "config reference", "completion bash", "completion zsh", "completion fish", "__complete stat",
			"check --offline --config " + config, "status --config " + config, "status -o json --config " + config, "status --watch --config " + config,
			"get bot --config " + config, "get bot --watch --config " + config,
			"refresh bot --config " + config, "reload --config " + config,
			"docker-credential list", "docker-credential version",
		} {
			stderr := scratch(t)
			code := run(t.Context(), nil, strings.Fields(line), full, stderr)
			said, err := os.ReadFile(stderr.Name())
			if err != nil || code != exitFailed || strings.Count(string(said), "no space left on device") != 1 {
				t.Errorf("%s: it ended with %d and said %q, %v", line, code, said, err)
			}
		}
		s.do(0, "", "healthcheck", "--config", "bot.yaml")
	})
}
