//! Packets as a TUN device with IFF_VNET_HDR gives them: `struct virtio_net_hdr`, then IP.
//!
//! A TCP super-packet stands for many packets on the wire. Where some of those are lost, the rest
//! goes on as smaller super-packets, with lengths, IDs, sequence numbers and checksums made right.

/// Bytes of `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h).
pub(super) const VNET: usize = 10;

const GSO_TYPE: usize = 1;
const HDR_LEN: usize = 2;
const GSO_SIZE: usize = 4;
const CSUM_START: usize = 6;

/// VIRTIO_NET_HDR_GSO_TCPV4 and _TCPV6; the top bit of the type says ECN.
const TCP: [u8; 2] = [1, 4];

fn native(packet: &[u8], at: usize) -> usize {
    usize::from(u16::from_ne_bytes([packet[at], packet[at + 1]]))
}

fn big(packet: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]))
}

fn put_big(packet: &mut [u8], at: usize, value: usize) {
    packet[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}

/// Where the parts of a packet lie, and what it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Start of the TCP header where it is a super-packet.
    tcp: usize,
    /// Start of the payload.
    payload: usize,
    /// Payload bytes of each segment but the last; 0: one plain packet.
    segment: usize,
    /// Packets on the wire.
    pub(super) segments: usize,
    /// IP bytes on the wire, headers repeated.
    pub(super) wire_bytes: usize,
}

impl Layout {
    /// IP bytes on the wire of one segment.
    pub(super) fn wire_bytes_of(&self, segment: usize) -> usize {
        if self.segment == 0 {
            return self.wire_bytes;
        }
        let headers = self.payload - VNET;
        let bytes = self.wire_bytes - self.segments * headers;
        headers + self.segment.min(bytes - segment * self.segment)
    }

    /// Bytes that [`part`] writes of a packet of `len` bytes.
    pub(super) fn part_len(&self, len: usize, first: usize, end: usize) -> usize {
        if self.segment == 0 {
            return len;
        }
        let from = self.payload + first * self.segment;
        self.payload + (self.payload + end * self.segment).min(len) - from
    }
}

pub(super) fn layout(packet: &[u8]) -> Layout {
    let plain = Layout {
        tcp: 0,
        payload: 0,
        segment: 0,
        segments: 1,
        wire_bytes: packet.len().saturating_sub(VNET),
    };
    if packet.len() < VNET + 40 || !TCP.contains(&(packet[GSO_TYPE] & 0x7f)) {
        return plain;
    }
    // A super-packet's checksum is always left to the device, so this says where TCP begins, behind
    // IPv4 options and IPv6 extension headers too.
    let tcp = VNET + native(packet, CSUM_START);
    if packet.len() < tcp + 20 {
        return plain;
    }
    let payload = tcp + usize::from(packet[tcp + 12] >> 4) * 4;
    let segment = native(packet, GSO_SIZE);
    if segment == 0 || packet.len() <= payload {
        return plain;
    }
    let bytes = packet.len() - payload;
    let segments = bytes.div_ceil(segment);
    Layout {
        tcp,
        payload,
        segment,
        segments,
        wire_bytes: bytes + segments * (payload - VNET),
    }
}

/// The part of a super-packet from segment `first` up to `end`, as a packet of its own at the start
/// of `out`; gives its length.
pub(super) fn part(
    packet: &[u8],
    layout: &Layout,
    first: usize,
    end: usize,
    out: &mut [u8],
) -> usize {
    let Layout {
        tcp,
        payload,
        segment,
        segments,
        ..
    } = *layout;
    let len = layout.part_len(packet.len(), first, end);
    let out = &mut out[..len];
    if segment == 0 || (first == 0 && end == segments) {
        out.copy_from_slice(packet);
        return len;
    }
    let from = payload + first * segment;
    out[..payload].copy_from_slice(&packet[..payload]);
    out[payload..].copy_from_slice(&packet[from..from + len - payload]);
    if end - first == 1 {
        out[GSO_TYPE] = 0;
        out[HDR_LEN..CSUM_START].fill(0);
    }
    let v4 = out[VNET] >> 4 == 4;
    if v4 {
        put_big(out, VNET + 2, len - VNET);
        let id = big(out, VNET + 4).wrapping_add(first);
        put_big(out, VNET + 4, id);
        put_big(out, VNET + 10, 0);
        let check = !fold(sum(&out[VNET..tcp]));
        put_big(out, VNET + 10, usize::from(check));
    } else {
        put_big(out, VNET + 4, len - VNET - 40);
    }
    let seq = u32::from_be_bytes(out[tcp + 4..tcp + 8].try_into().expect("four bytes"));
    let seq = seq.wrapping_add((first * segment) as u32);
    out[tcp + 4..tcp + 8].copy_from_slice(&seq.to_be_bytes());
    if first > 0 {
        out[tcp + 13] &= !0x80; // CWR goes with the first segment
    }
    if end < segments {
        out[tcp + 13] &= !0x09; // FIN and PSH with the last
    }
    // CHECKSUM_PARTIAL: the field holds the sum of the pseudo-header only.
    let addresses = if v4 {
        VNET + 12..VNET + 20
    } else {
        VNET + 8..VNET + 40
    };
    let pseudo = fold(sum(&out[addresses]) + 6 + (len - tcp) as u64);
    put_big(out, tcp + 16, usize::from(pseudo));
    len
}

fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| {
            u64::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 segments of 1000 bytes and one of 500, FIN and PSH set.
    fn super_packet() -> Vec<u8> {
        let mut packet = vec![0; VNET + 40 + 3500];
        packet[GSO_TYPE] = 1;
        packet[GSO_SIZE..GSO_SIZE + 2].copy_from_slice(&1000u16.to_ne_bytes());
        packet[CSUM_START..CSUM_START + 2].copy_from_slice(&20u16.to_ne_bytes());
        packet[VNET] = 0x45;
        put_big(&mut packet, VNET + 2, 3540);
        put_big(&mut packet, VNET + 4, 0xffff);
        packet[VNET + 12..VNET + 20].copy_from_slice(&[10, 77, 0, 1, 10, 77, 0, 2]);
        let tcp = VNET + 20;
        packet[tcp + 4..tcp + 8].copy_from_slice(&u32::MAX.to_be_bytes());
        packet[tcp + 12] = 5 << 4;
        packet[tcp + 13] = 0x89;
        for (i, byte) in packet[VNET + 40..].iter_mut().enumerate() {
            *byte = (i / 1000) as u8;
        }
        packet
    }

    #[test]
    fn counts_what_is_on_the_wire() {
        let found = layout(&super_packet());
        assert_eq!((found.segments, found.wire_bytes), (4, 3500 + 4 * 40));
        assert_eq!(
            [0, 2, 3].map(|segment| found.wire_bytes_of(segment)),
            [1040, 1040, 540]
        );
        let small = layout(&[0; VNET + 28]);
        assert_eq!((small.segments, small.wire_bytes_of(0)), (1, 28));
    }

    #[test]
    fn parts_are_packets_of_their_own() {
        let packet = super_packet();
        let found = layout(&packet);
        let cut = |first, end| {
            let mut out = vec![0xaa; 65_536];
            let len = part(&packet, &found, first, end, &mut out);
            out.truncate(len);
            out
        };
        let out = cut(1, 3);
        assert_eq!(out.len(), VNET + 40 + 2000);
        assert_eq!((out[VNET + 40], out[VNET + 40 + 1999]), (1, 2));
        assert_eq!(big(&out, VNET + 2), 2040);
        assert_eq!(big(&out, VNET + 4), 0, "the ID wraps");
        assert_eq!(
            fold(sum(&out[VNET..VNET + 20])),
            0xffff,
            "a right checksum sums to all ones"
        );
        assert_eq!(out[VNET + 20 + 4..VNET + 20 + 8], 999u32.to_be_bytes());
        assert_eq!(out[VNET + 20 + 13], 0, "no CWR, FIN or PSH in the middle");
        let out = cut(3, 4);
        assert_eq!(
            (out.len(), out[GSO_TYPE], native(&out, GSO_SIZE)),
            (VNET + 40 + 500, 0, 0)
        );
        assert_eq!(out[VNET + 20 + 13], 0x09);
        assert_eq!(cut(0, 4), packet);
    }
}
