// Programs over amqp091-go, each a subcommand: `compat-go list` names them.
package main

import (
	"fmt"
	"os"
	"time"
)

const timeLimit = 60 * time.Second

var programs = []struct {
	name string
	run  func(*scene)
}{
	{"connection", connection},
	{"topology", topology},
	{"publishing", publishing},
	{"contents", contents},
	{"consuming", consuming},
	{"dead_letter", deadLetter},
	{"rpc", rpc},
	{"tls", overTLS},
	{"blocked", blocked},
	{"recovery", recovery},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compat-go list|PROGRAM")
		os.Exit(2)
	}
	if os.Args[1] == "list" {
		for _, program := range programs {
			fmt.Println(program.name)
		}
		return
	}
	for _, program := range programs {
		if program.name == os.Args[1] {
			time.AfterFunc(timeLimit, func() {
				fmt.Fprintf(os.Stderr, "still running after %s\n", timeLimit)
				os.Exit(1)
			})
			s := newScene()
			defer s.deleteWhatWasMade()
			program.run(s)
			return
		}
	}
	fmt.Fprintf(os.Stderr, "no program %s\n", os.Args[1])
	os.Exit(2)
}
