loop:
	w0 = 0
	w2 = *(u32 *)(r1 + 0)
	w1 = *(u32 *)(r1 + 4)
	r3 = r2
	r3 += 10
	if r3 > r1 goto LBB0_10
	r3 = r2
	r3 += 1
	if r3 > r1 goto LBB0_10
	r3 = r2
	r3 += 2
	if r3 > r1 goto LBB0_10
	r3 = r2
	r3 += 3
	if r3 > r1 goto LBB0_10
	r3 = r2
	r3 += 5
	if r3 > r1 goto LBB0_10
	r3 = r2
	r3 += 6
	if r3 > r1 goto LBB0_10
	r3 = r2
	r3 += 7
	if r3 > r1 goto LBB0_10
	r3 = r2
	r3 += 8
	if r3 > r1 goto LBB0_10
	w3 = *(u8 *)(r2 + 1)
	w1 = *(u8 *)(r2 + 0)
	w1 += w3
	w3 = *(u8 *)(r2 + 2)
	w1 += w3
	w3 = *(u8 *)(r2 + 4)
	w1 += w3
	w3 = *(u8 *)(r2 + 5)
	w1 += w3
	w3 = *(u8 *)(r2 + 6)
	w1 += w3
	w3 = *(u8 *)(r2 + 7)
	w1 += w3
	*(u16 *)(r2 + 8) = w1
	w1 &= 65535
	w0 = 3
	if w1 > 100 goto LBB0_10
	w0 = 1
LBB0_10:
	exit
