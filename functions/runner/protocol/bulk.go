package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// MaxBulk bounds the memory file: 64 pictures of 4096 x 4096, with room.
const MaxBulk = 4 << 30

// keepBulk is how many bytes of the memory file stay allocated between jobs.
const keepBulk = 16 << 20

// Bulk is the memory file. It is read and written by offset and never mapped: a side that truncates or
// crashes then costs the other an error, not a SIGBUS. Who may write is settled by the conversation: the
// instance until it sends a job, the runner until it has answered it.
type Bulk struct {
	file *os.File
}

// CreateBulk makes an empty memory file.
func CreateBulk() (*Bulk, error) {
	fd, err := unix.MemfdCreate("genfn-bulk", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory file for bulk bytes: %w", err)
	}
	return &Bulk{file: os.NewFile(uintptr(fd), "genfn-bulk")}, nil
}

// OpenBulk takes over a memory file that was inherited.
func OpenBulk(f *os.File) *Bulk { return &Bulk{file: f} }

// File is the memory file, to hand to a child process. It stays owned by b.
func (b *Bulk) File() *os.File { return b.file }

// Close closes this side's descriptor. The memory is freed when both sides have closed it.
func (b *Bulk) Close() error { return b.file.Close() }

// Write puts p at offset.
func (b *Bulk) Write(offset int64, p []byte) (Block, error) {
	block := Block{Offset: offset, Size: int64(len(p))}
	if err := block.validate(); err != nil {
		return Block{}, err
	}
	if _, err := b.file.WriteAt(p, offset); err != nil {
		return Block{}, fmt.Errorf("write %d bulk bytes at %d: %w", len(p), offset, err)
	}
	return block, nil
}

// Read returns a copy of the block.
func (b *Bulk) Read(block Block) ([]byte, error) {
	if err := block.validate(); err != nil {
		return nil, err
	}
	info, err := b.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("bulk file: %w", err)
	}
	if block.Offset+block.Size > info.Size() {
		return nil, fmt.Errorf("block at %d of %d bytes is outside of the bulk file of %d bytes", block.Offset, block.Size, info.Size())
	}
	p := make([]byte, block.Size)
	if _, err := b.file.ReadAt(p, block.Offset); err != nil {
		return nil, fmt.Errorf("read %d bulk bytes at %d: %w", block.Size, block.Offset, err)
	}
	return p, nil
}

// WriteF32 puts data at offset as little-endian f32.
func (b *Bulk) WriteF32(offset int64, data []float32) (Block, error) {
	p := make([]byte, 0, 4*len(data))
	for _, v := range data {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(v))
	}
	return b.Write(offset, p)
}

// ReadF32 returns a copy of the block as f32.
func (b *Bulk) ReadF32(block Block) ([]float32, error) {
	if block.Size%4 != 0 {
		return nil, fmt.Errorf("block of %d bytes does not hold whole f32 values", block.Size)
	}
	p, err := b.Read(block)
	if err != nil {
		return nil, err
	}
	data := make([]float32, len(p)/4)
	for i := range data {
		data[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
	}
	return data, nil
}

// Trim gives the memory of a large job back. Call it between jobs.
func (b *Bulk) Trim() error {
	info, err := b.file.Stat()
	if err != nil || info.Size() <= keepBulk {
		return err
	}
	return b.file.Truncate(0)
}
