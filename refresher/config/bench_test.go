package config

import (
	"fmt"
	"strings"
	"testing"
)

func manyTokens(n int) []byte {
	var b strings.Builder
	b.WriteString("tokens:\n")
	for i := range n {
		fmt.Fprintf(&b, `  - name: bot-%d
    source: {service_account_key: {file: /etc/iam-token-refresher/bot-%d.json}}
    refresh: {schedule: "@every 1h", before_expiry: 4h}
    probe: {tracker: {cloud_org_id: bpfaidqca8vd0m5jl3fp}}
    sinks:
      - file: {path: /run/iam-token-refresher/bot-%d.token, mode: "0640", group: bots}
      - socket: {path: /run/iam-token-refresher.sock, mode: "0660", allow: {users: [grafana], groups: [bots]}}
`, i, i, i)
	}
	return []byte(b.String())
}

func BenchmarkParse(b *testing.B) {
	kinds := fakeKinds()
	for _, n := range []int{1, 1000} {
		text := manyTokens(n)
		b.Run(fmt.Sprintf("tokens=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse("bench.yaml", text, kinds, LoadOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
