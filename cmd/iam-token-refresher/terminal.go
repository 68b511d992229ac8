package main

import (
	"os"
	"strings"

	"golang.org/x/term"
)

// screen is what is known of where output goes.
type screen struct {
	terminal bool
	color    bool
	unicode  bool
	width    int // in characters; 0 when unknown
	height   int
}

func (a *app) screenOf(f *os.File) screen {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return screen{}
	}
	s := screen{terminal: true, color: a.env("NO_COLOR") == "" && a.env("TERM") != "dumb"}
	if width, height, err := term.GetSize(fd); err == nil {
		s.width, s.height = width, height
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := a.env(name); locale != "" {
			locale = strings.ToLower(locale)
			s.unicode = strings.HasSuffix(locale, "utf-8") || strings.HasSuffix(locale, "utf8")
			break
		}
	}
	return s
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
	plain  = "\x1b[0m"
)

func (s screen) paint(text, color string) string {
	if !s.color {
		return text
	}
	return color + text + plain
}
