package iam

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyFileIsReadInEveryFormThatExists(t *testing.T) {
	t.Parallel()
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testRSA())}))
	for name, content := range map[string]string{
		"as yc writes it":             string(keyJSON(t)),
		"without the line above":      string(keyJSON(t, "private_key", privatePEM(t, testRSA()))),
		"without a public key":        string(keyJSON(t, "public_key", "")),
		"with unknown fields":         string(keyJSON(t, "comment", "of a later yc", "description", "x")),
		"PKCS 1":                      string(keyJSON(t, "private_key", pkcs1)),
		"with blank lines at its end": string(keyJSON(t)) + "\n\n",
		"with Windows line ends":      string(keyJSON(t, "private_key", strings.ReplaceAll(privatePEM(t, testRSA()), "\n", "\r\n"))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := new(keyMemo).parseKey([]byte(content))
			if err != nil {
				t.Fatal(err)
			}
			if key.id != testKeyID || key.account != testAccount {
				t.Errorf("id %q, account %q", key.id, key.account)
			}
			block, _ := pem.Decode([]byte(key.private.Value()))
			if block == nil {
				t.Fatal("what is kept is not PEM")
			}
			if parsed, err := parseRSA(block); err != nil || !parsed.Equal(testRSA()) {
				t.Errorf("another key is kept (%v)", err)
			}
		})
	}
}

func TestBrokenKeyFileIsRefusedWithItsReasonAndWithoutItsContents(t *testing.T) {
	t.Parallel()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	whole := privatePEM(t, testRSA())
	half := whole[:len(whole)/2]
	garbled := strings.Replace(whole, "\nMII", "\nAAA", 1)
	for name, c := range map[string]struct{ content, want string }{
		"empty":                         {"", "is empty"},
		"blank":                         {" \n", "is empty"},
		"not JSON":                      {"id: " + secret, "is not valid JSON (byte 1)"},
		"cut off":                       {`{"id": "` + secret, "is not valid JSON"},
		"a list":                        {`["` + secret + `"]`, "another form"},
		"a wrong type":                  {`{"id": 12345678901234}`, `"id" has the wrong type`},
		"a bare PEM":                    {whole, "bare PEM"},
		"no id":                         {string(keyJSON(t, "id", "")), `no "id"`},
		"no account":                    {string(keyJSON(t, "service_account_id", "")), `no "service_account_id"`},
		"a user's key":                  {string(keyJSON(t, "service_account_id", "", "user_account_id", "aje1")), "keys of service accounts only"},
		"an id that is none":            {string(keyJSON(t, "id", "aje\n"+secret)), "no id"},
		"no private key":                {string(keyJSON(t, "private_key", "")), `no "private_key"`},
		"a private key that is no PEM":  {string(keyJSON(t, "private_key", secret)), "not PEM"},
		"half a private key":            {string(keyJSON(t, "private_key", half)), "broken PEM"},
		"a private key with wrong data": {string(keyJSON(t, "private_key", garbled)), "no valid key"},
		"two private keys":              {string(keyJSON(t, "private_key", whole+whole)), "something after"},
		"an EC key":                     {string(keyJSON(t, "private_key", privatePEM(t, ecKey(t)))), "not RSA"},
		"an encrypted key":              {string(keyJSON(t, "private_key", strings.ReplaceAll(whole, "PRIVATE", "ENCRYPTED PRIVATE"))), "encrypted"},
		"another's public key":          {string(keyJSON(t, "public_key", publicPEM(t, &other.PublicKey))), "does not belong"},
		"a public key that is none":     {string(keyJSON(t, "public_key", secret)), "does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, c.content)
			_, err := KeyOptions{File: path}.New(newCloud(t, Config{}))
			if err == nil {
				t.Fatal("accepted")
			}
			wantText(t, err, path, c.want)
			checkText(t, err.Error())
		})
	}
}

func TestKeyFileThatCannotBeReadSaysWhyAndWhatToDo(t *testing.T) {
	t.Parallel()
	c := newCloud(t, Config{})
	dir := t.TempDir()
	big := writeFile(t, strings.Repeat(" ", maxFile+1))
	for name, want := range map[string]string{
		filepath.Join(dir, "absent.json"): "does not exist: check the path",
		dir:                               "is a directory",
		os.DevNull:                        "is not a regular file",
		big:                               "is it the right file?",
	} {
		_, err := KeyOptions{File: name}.New(c)
		if err == nil {
			t.Fatalf("%s: accepted", name)
		}
		wantText(t, err, name, want)
	}
}

func TestUnreadableFileNamesWhoCannotReadIt(t *testing.T) {
	t.Parallel()
	err := fileError("key file", "/x/key.json", &os.PathError{Op: "open", Path: "/x/key.json", Err: os.ErrPermission})
	wantText(t, err, "key file /x/key.json is not readable for uid", "owner")
}

func TestWarningWhenOthersMayReadTheKey(t *testing.T) {
	for _, c := range []struct {
		mode        os.FileMode
		credentials bool // in systemd's directory
		want        string
	}{
		{mode: 0o600, want: ""},
		{mode: 0o640, want: "by its group"},
		{mode: 0o604, want: "by everybody"},
		{mode: 0o644, want: "by everybody"},
		{mode: 0o440, credentials: true, want: ""},
		{mode: 0o444, credentials: true, want: "by everybody"},
	} {
		t.Run(fmt.Sprintf("%o credentials=%v", c.mode, c.credentials), func(t *testing.T) {
			path := writeFile(t, string(keyJSON(t)))
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			if c.credentials {
				t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
			}
			var log logBuffer
			source(t, newCloud(t, Config{Log: log.logger()}), KeyOptions{File: path})
			switch got := log.String(); {
			case c.want == "" && got != "":
				t.Errorf("warned: %s", got)
			case !strings.Contains(got, c.want), c.want != "" && !strings.Contains(got, path):
				t.Errorf("want a warning that %s is readable %s, got %q", path, c.want, got)
			}
		})
	}
}

func TestSourcesOfOneKeyShareItUnderAnyID(t *testing.T) {
	t.Parallel()
	c := newCloud(t, Config{})
	var kept []privateKey
	for i := range 3 {
		id := fmt.Sprintf("ajekey%014d", i)
		content := keyJSON(t, "id", id, "private_key", "PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <"+id+">\n"+privatePEM(t, testRSA()))
		kept = append(kept, source(t, c, KeyOptions{File: writeFile(t, string(content))}).(*keySource).key.private)
	}
	if kept[0] != kept[1] || kept[1] != kept[2] {
		t.Error("each source keeps a copy of the same key")
	}
}
