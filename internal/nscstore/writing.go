package nscstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// ErrExists says that the target holds something that would have to be overwritten.
var ErrExists = errors.New("already there, and nothing is ever overwritten")

// info is what nsc reads in stores/OPERATOR/.nsc, without which it takes the folder for none of its own.
type info struct {
	Managed bool   `json:"managed"`
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Version string `json:"version"`
}

// ignored keeps seeds and creds out of repositories, as nsc does.
const ignored = "# ignore all nk files\n**/*.nk\n\n# ignore all creds files\n**/*.creds\n"

// Create makes the folder of an operator, whose JWT is given, in dir: folders 0700, files 0600. The error wraps [ErrExists] when
// dir has a folder of nsc already. What was written before an error stays.
func Create(dir, operatorToken string) (*Folder, error) {
	operator, err := jwt.DecodeOperatorClaims(operatorToken)
	if err != nil {
		return nil, fmt.Errorf("not the JWT of an operator: %w", err)
	}
	if err := checkName("operator", operator.Name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &Folder{root: root, operator: operator.Name}
	if err := f.create(operatorToken); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return f, nil
}

func (f *Folder) create(operatorToken string) error {
	for _, name := range []string{"stores", "keys"} {
		switch err := f.root.Mkdir(name, 0o700); {
		case errors.Is(err, fs.ErrExist):
			return fmt.Errorf("%s: %w: choose another folder", f.file(name), ErrExists)
		case err != nil:
			return err
		}
	}
	for _, name := range []string{"keys/keys", "keys/creds", path.Join("stores", f.operator, "accounts")} {
		if err := f.root.MkdirAll(name, 0o700); err != nil {
			return err
		}
	}
	about, err := json.Marshal(info{Name: f.operator, Kind: string(jwt.OperatorClaim), Version: "1"})
	if err != nil {
		return err
	}
	return errors.Join(
		f.write(f.operatorPath(), []byte(operatorToken)),
		f.write(path.Join("stores", f.operator, ".nsc"), about),
		f.write("keys/.gitignore", []byte(ignored)),
	)
}

// AddAccount writes the JWT of an account under the name that it has. The error wraps [ErrExists] when there is one of
// that name.
func (f *Folder) AddAccount(token string) error {
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return fmt.Errorf("not the JWT of an account: %w", err)
	}
	if err := checkName("account", claims.Name); err != nil {
		return err
	}
	return f.write(f.accountPath(claims.Name), []byte(token))
}

// AddSeed writes a seed; one that is there already stays.
func (f *Folder) AddSeed(seed []byte) error {
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return errors.New("not a seed")
	}
	public, err := kp.PublicKey()
	if err != nil {
		return err
	}
	if err := f.write(keyPath(public), seed); !errors.Is(err, ErrExists) {
		return err
	}
	_, err = f.Seed(public, "key")
	return err
}

// write makes a file and the folders above it. It never replaces one.
func (f *Folder) write(name string, content []byte) error {
	if err := f.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", f.file(name), ErrExists)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}
