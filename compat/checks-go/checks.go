// Package checks is what the Go programs of compat share: named checks, a report, unique names.
package checks

import (
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"time"
)

// Bootstrap is the broker's address.
var Bootstrap = os.Getenv("BOOTSTRAP")

var run = func() string { b := make([]byte, 4); rand.Read(b); return fmt.Sprintf("%x", b) }()

// Name gives a topic or group name that no other run uses.
func Name(what string) string { return what + "-" + run }

// Check ends the check that runs if there is an error.
func Check(err error) {
	if err != nil {
		panic(err)
	}
}

// Equal ends the check that runs if the two are not printed alike.
func Equal[T any](got, wanted T, what string) {
	if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", wanted); g != w {
		panic(fmt.Sprintf("%s: got %.600s, wanted %.600s", what, g, w))
	}
}

// Eventually polls until the condition holds.
func Eventually(what string, condition func() bool) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if condition() {
			return
		}
	}
	panic("not within 30 s: " + what)
}

// Named is one check.
type Named struct {
	Name string
	Body func()
}

// Run runs those that the command line names, or all, and ends the process.
func Run(all []Named) {
	passed, failed := 0, 0
	for _, c := range all {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], c.Name) {
			continue
		}
		began := time.Now()
		func() {
			defer func() {
				if problem := recover(); problem != nil {
					failed++
					fmt.Printf("FAIL %s: %v\n", c.Name, problem)
				} else {
					passed++
					fmt.Printf("ok %s (%.1f s)\n", c.Name, time.Since(began).Seconds())
				}
			}()
			c.Body()
		}()
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
