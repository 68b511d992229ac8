package daemon

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/probe"
	"iam-token-refresher/sink"
)

// listenerAt returns the plan's listener of that key: the one that is there
// already, the one of the plan before with its server, or a new one.
func listenerAt[S server](p *planner, key string, make func() (S, error)) (*listener, S, error) {
	l, ok := p.plan.listeners[key]
	if ok {
		return l, l.server.(S), nil
	}
	l = &listener{}
	if p.old != nil && p.old.listeners[key] != nil {
		l.server = p.old.listeners[key].server
	} else {
		s, err := make()
		if err != nil {
			return nil, s, err
		}
		l.server, l.fresh = s, true
	}
	p.plan.listeners[key] = l
	return l, l.server.(S), nil
}

func socketKey(path string) string { return "socket:" + path }

func (p *planner) socket(t *config.Token, o *sink.SocketOptions) (refresher.Sink, error) {
	l, ok := p.plan.listeners[socketKey(o.Path)]
	if !ok { // the first token there
		shared, err := sink.SharedSocket(p.sockets[o.Path]...)
		if err != nil {
			return nil, err
		}
		if l, err = p.socketServer(shared); err != nil {
			return nil, err
		}
	}
	server := l.server.(*sink.Server)
	key := fmt.Sprintf("endpoint %p %s %t %s", server, t.Name, o.Default, describe(o.Allow))
	return p.endpoint(l, key, func() (*sink.Endpoint, error) { return server.For(t.Name, o.Allow, o.Default, p.accounts) })
}

// socketServer takes over the server of the path: only its mode and owner may
// have to change.
func (p *planner) socketServer(o sink.SocketOptions) (*listener, error) {
	l, _, err := listenerAt(p, socketKey(o.Path), func() (*sink.Server, error) {
		inherited, err := p.inheritedAt(o.Path)
		if err != nil {
			return nil, err
		}
		return sink.NewServer(sink.ServerOptions{Socket: o, Inherited: inherited, Accounts: p.accounts, Live: p.live, Log: p.log})
	})
	if err == nil {
		l.options = o
	}
	return l, err
}

// inheritedAt is the socket of that path, if somebody else bound it.
func (p *planner) inheritedAt(path string) (net.Listener, error) {
	as, ok := p.inherited.find(path)
	if !ok {
		return nil, nil
	}
	return p.inherited.listen(as)
}

func (p *planner) metadata(t *config.Token, o *sink.MetadataOptions) (refresher.Sink, error) {
	l, server, err := listenerAt(p, "metadata:"+o.Listen, func() (*sink.MetadataServer, error) {
		return sink.NewMetadataServer(sink.MetadataServerOptions{Listen: o.Listen, Live: p.live, Log: p.log})
	})
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("endpoint %p %s %t", server, t.Name, o.Default)
	return p.endpoint(l, key, func() (*sink.Endpoint, error) { return server.For(t.Name, o.Default), nil })
}

// proxy forwards to what the token's probe asks: a value that works there is
// one that works here.
func (p *planner) proxy(t *config.Token, o *sink.ProxyOptions) (refresher.Sink, error) {
	var tracker *probe.TrackerOptions
	if t.Probe != nil {
		tracker, _ = t.Probe.Options.(*probe.TrackerOptions)
	}
	if tracker == nil {
		return nil, &refresher.Invalid{Problem: "forwards to the Tracker that the token's probe asks, for the organization that the probe names: give the token `probe: {tracker: {cloud_org_id: …}}`"}
	}
	api, err := p.probing(t).Tracker()
	if err != nil {
		return nil, err
	}
	l, server, err := listenerAt(p, "proxy:"+o.Listen, func() (*sink.ProxyServer, error) {
		inherited, err := p.inheritedAt(o.Listen)
		if err != nil {
			return nil, err
		}
		return sink.NewProxyServer(sink.ProxyServerOptions{Proxy: *o, Inherited: inherited, Accounts: p.accounts, Live: p.live, Log: p.log})
	})
	if err != nil {
		return nil, err
	}
	l.options = o.Socket()
	way, _ := part(p, "proxied "+p.webKey, func() (*proxied, error) { return newProxied(p.web.transport), nil })
	header, id := tracker.Header()
	other, _ := tracker.Other().Header()
	key := fmt.Sprintf("endpoint %p %s %s %p %s %s=%s", server, t.Name, describe(o.Allow), way, api, header, id)
	return p.endpoint(l, key, func() (*sink.Endpoint, error) {
		return server.For(t.Name, o.Allow, p.accounts, sink.Upstream{
			URL: api, Header: map[string]string{header: id}, Reserved: []string{other}, Transport: way.transport,
		})
	})
}

// endpoint adds the endpoint of that description to a listener.
func (p *planner) endpoint(l *listener, key string, make func() (*sink.Endpoint, error)) (refresher.Sink, error) {
	e, err := part(p, key, make)
	if err != nil {
		return nil, err
	}
	l.endpoints = append(l.endpoints, e)
	p.plan.endpoints[spot{e.Token(), e.ID()}] = e
	return e, nil
}

// proxied is how the requests of proxies reach the outside.
type proxied struct{ transport *http.Transport }

// newProxied makes a transport beside that of our own requests, which nobody's
// upload is to be in the way of. Each request has a connection to itself
// (HTTP/1.1): a slow reader then holds up nobody else, and what waits for it
// is held by the kernel.
func newProxied(like *http.Transport) *proxied {
	t := like.Clone()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	// A transport that was used has left its offer of HTTP/2 there.
	t.TLSClientConfig, t.TLSNextProto = like.TLSClientConfig.Clone(), nil
	t.TLSClientConfig.NextProtos = nil
	t.DisableCompression = true // answers are passed on as they are
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 128, 64
	t.ExpectContinueTimeout = time.Second
	return &proxied{t}
}

// Close lets idle connections go.
func (p *proxied) Close() error {
	p.transport.CloseIdleConnections()
	return nil
}
