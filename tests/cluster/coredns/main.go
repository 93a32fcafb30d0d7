// The CoreDNS of the tests: only the plugins that a cluster's DNS server needs, which saves most of
// the time that the whole one takes to build.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// In this order a question passes through the plugins.
	dnsserver.Directives = []string{
		"health", "ready", "errors", "cache", "loadbalance", "kubernetes", "template",
	}
	coremain.Run()
}
