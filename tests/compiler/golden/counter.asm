counter:
	w2 = *(u32 *)(r1 + 4)
	w3 = *(u32 *)(r1 + 0)
	r1 = r3
	r1 += 14
	if r1 > r2 goto LBB0_8
	w4 = *(u16 *)(r3 + 12)
	if w4 != 8 goto LBB0_8
	r4 = r3
	r4 += 34
	if r4 > r2 goto LBB0_8
	w4 = *(u8 *)(r3 + 23)
	if w4 != 17 goto LBB0_8
	w3 = *(u8 *)(r3 + 14)
	r3 <<= 2
	r3 &= 60
	r1 += r3
	r3 = r1
	r3 += 8
	if r3 > r2 goto LBB0_8
	w6 = *(u16 *)(r1 + 2)
	*(u16 *)(r10 - 8) = w6
	r2 = r10
	r2 += -8
	r1 = ports ll
	call 1
	if r0 == 0 goto LBB0_7
	r1 = 1
	lock *(u64 *)(r0 + 0) += r1
	goto LBB0_8
LBB0_7:
	*(u16 *)(r10 - 8) = w6
	r1 = 1
	*(u64 *)(r10 - 16) = r1
	r2 = r10
	r2 += -8
	r3 = r10
	r3 += -16
	r1 = ports ll
	r4 = 0
	call 2
LBB0_8:
	w0 = 2
	exit
