package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"genfn/events"
)

// fileStamp tells whether a file is still the one that was hashed.
type fileStamp struct {
	Path    string `json:"path"` // relative, with slashes
	Size    int64  `json:"size"`
	ModTime int64  `json:"mtime_ns"`
}

type hashRecord struct {
	Files  []fileStamp `json:"files"`
	SHA256 string      `json:"sha256"`
}

// Hash computes SHA256 over every file of the folders that make up the model: the SHA-256 of the lines
// "<sha256 of the file>  <path>\n", sorted by path, as sha256sum prints them. progress, which may be nil, is told the bytes
// done and to do. With a cacheDir the result is kept there and reused while sizes and modification times stay
// the same; a cache that cannot be read or written only costs the time.
func (m *Model) Hash(ctx context.Context, cacheDir string, progress func(done, total int64)) error {
	files, err := m.files()
	if err != nil {
		return m.hashError(err)
	}
	record := filepath.Join(cacheDir, "model-hashes", hex.EncodeToString(sum(m.Dir))+".json")
	if cacheDir != "" {
		if known, ok := readHash(record, files); ok {
			m.SHA256 = known
			return nil
		}
	}
	digest, err := m.hashFiles(ctx, files, progress)
	if err != nil {
		return m.hashError(err)
	}
	m.SHA256 = digest
	if cacheDir != "" {
		_ = writeHash(record, hashRecord{files, digest}) // the next Open computes it again
	}
	return nil
}

func (m *Model) hashError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return events.Errorf(events.CodeModelInvalid, "model %q: its checksum cannot be computed: %w", m.Name, err)
}

func sum(s string) []byte {
	digest := sha256.Sum256([]byte(s))
	return digest[:]
}

// files lists model_index.json, generation_config.json and everything under the component folders.
func (m *Model) files() ([]fileStamp, error) {
	var out []fileStamp
	for _, top := range []string{"generation_config.json", "model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae_decoder", "vae_encoder"} {
		root := filepath.Join(m.Dir, top)
		// The components of a store that shares files may be links to folders elsewhere.
		resolved, err := filepath.EvalSymlinks(root)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = filepath.WalkDir(resolved, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			st, err := os.Stat(path)
			if err != nil || !st.Mode().IsRegular() {
				return err
			}
			relative := top + strings.TrimPrefix(path, resolved)
			out = append(out, fileStamp{filepath.ToSlash(relative), st.Size(), st.ModTime().UnixNano()})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b fileStamp) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

func (m *Model) hashFiles(ctx context.Context, files []fileStamp, progress func(done, total int64)) (string, error) {
	var done, total int64
	for _, f := range files {
		total += f.Size
	}
	all := sha256.New()
	buffer := make([]byte, 1<<20)
	for _, f := range files {
		digest, err := hashFile(ctx, filepath.Join(m.Dir, filepath.FromSlash(f.Path)), buffer, func(n int) {
			done += int64(n)
			if progress != nil {
				progress(done, total)
			}
		})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%x  %s\n", digest, f.Path)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func hashFile(ctx context.Context, path string, buffer []byte, read func(n int)) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := f.Read(buffer)
		h.Write(buffer[:n])
		read(n)
		if errors.Is(err, io.EOF) {
			return h.Sum(nil), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func readHash(path string, files []fileStamp) (string, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", false
	}
	var r hashRecord
	if json.Unmarshal(data, &r) != nil || !slices.Equal(r.Files, files) || len(r.SHA256) != 2*sha256.Size {
		return "", false
	}
	return r.SHA256, true
}

func writeHash(path string, r hashRecord) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".hash-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
