package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/internal/login"
)

// terminal is somebody's shell, whose logins are kept in a folder of its own.
type terminal struct {
	testing.TB
	dir    string
	config string // gatehouse.yaml
}

func newTerminal(t testing.TB, config string) terminal { return terminal{t, t.TempDir(), config} }

// gatehouse returns a command line of the binary.
func (s terminal) gatehouse(args ...string) *exec.Cmd {
	cmd := exec.Command(program("gatehouse"), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "GATEHOUSE_HOME="+s.dir, "GATEHOUSE_CONFIG="+s.config, "SSH_CONNECTION=none", "GATEHOUSE_TOKEN=")
	return cmd
}

// login runs gatehouse login with the flags; who answers, in a browser, the address that it prints. The last page
// shows how it ended.
func (s terminal) login(who person, flags ...string) (session login.Session, page string) {
	s.Helper()
	var out bytes.Buffer
	cmd := s.gatehouse(append([]string{"login", "--json"}, flags...)...)
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	must(s, err)
	must(s, cmd.Start())
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		fmt.Fprintln(&said, line)
		if strings.Contains(line, "code_challenge=") || strings.Contains(line, "user_code=") {
			page = who.answer(s, line)
		}
	}
	if err := cmd.Wait(); err != nil {
		s.Fatalf("%s of %s: %v\n%s\nThe browser shows %s", cmd, who, err, &said, page)
	}
	must(s, json.Unmarshal(out.Bytes(), &session))
	return session, page
}

// watch runs gatehouse login --watch until the test ends and returns the file.
func (s terminal) watch() string {
	s.Helper()
	file := filepath.Join(s.dir, "token.jwt")
	start(s, s.gatehouse("login", "--watch", file))
	return file
}

// token waits for the token in a watched file, and for another one than the one before.
func (s terminal) token(file, before string) string {
	s.Helper()
	var token string
	eventually(s, func() error {
		data, err := os.ReadFile(file)
		if token = string(data); err == nil && token == before {
			err = errors.New("the token in the file is still the one before")
		}
		return err
	})
	return token
}

// mustBeRenewable demands what gatehouse login --watch needs.
func (s terminal) mustBeRenewable(session login.Session) {
	s.Helper()
	if !session.Renewable || session.Expires.Before(time.Now()) {
		s.Errorf("the session is %+v", session)
	}
}
