"""The style of the report: light and dark, on screen and on paper."""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root{color-scheme:light dark;--ink:#16202a;--soft:#5b6875;--page:#f6f7f9;--card:#fff;--edge:#dde2e8;
--alert:#b3261e;--alertbg:#fdeceb;--warn:#7a5200;--warnbg:#fff6df;--ruo:#7a1f12;--ruobg:#ffe9d6}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#98a6b3;--page:#11161b;--card:#1a2129;--edge:#2c3640;
--alert:#ffb4ab;--alertbg:#3a1715;--warn:#ffd88a;--warnbg:#33280f;--ruo:#ffd9bd;--ruobg:#47230f}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.ruo{margin:0;padding:.55rem 1rem;text-align:center;background:var(--ruobg);color:var(--ruo);
border-bottom:1px solid var(--edge);position:sticky;top:0;z-index:2}
main{max-width:1290px;margin:0 auto;padding:1.2rem 1.4rem 2rem}
h1{font-size:1.65rem;margin:.2rem 0 .1rem;line-height:1.2}
h2{font-size:1.12rem;margin:0 0 .7rem}
h3{font-size:1rem;margin:.9rem 0 .5rem}
h3 small{font-weight:400;color:var(--soft);margin-left:.4rem}
header p{margin:.2rem 0 1rem}
.line,.note,figcaption,small{color:var(--soft)}
.line{font-size:.92rem}
section,.box{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:1rem 1.1rem;margin:0 0 1rem}
.box h2{margin-bottom:.3rem}.box p,.box ul{margin:.2rem 0;padding-left:1.1rem}.box p{padding-left:0}
.alert{background:var(--alertbg);border-color:var(--alert)}.alert h2{color:var(--alert)}
.warn{background:var(--warnbg);border-color:var(--warn)}.warn h2{color:var(--warn)}
.row{display:flex;flex-wrap:wrap;gap:.9rem;align-items:flex-end}
figure{margin:0;flex:0 1 auto}
.frame{position:relative;background:#000;border-radius:6px;overflow:hidden;line-height:0}
.frame img{width:100%;height:auto;display:block}
.frame img.ov{position:absolute;inset:0;height:100%}
#labels{position:absolute;opacity:0;pointer-events:none}
#labels:not(:checked)~main .ov{visibility:hidden}
label[for=labels]{font-size:.85rem;font-weight:500;float:right;cursor:pointer;color:var(--soft);
border:1px solid var(--edge);border-radius:6px;padding:.1rem .6rem}
#labels:focus-visible~main label[for=labels]{outline:2px solid currentColor}
.side{position:absolute;font:700 15px/1 system-ui,sans-serif;color:#fff;text-shadow:0 0 3px #000,0 0 2px #000}
.l{left:6px;top:50%;transform:translateY(-50%)}.r{right:6px;top:50%;transform:translateY(-50%)}
.t{top:6px;left:50%;transform:translateX(-50%)}.b{bottom:6px;left:50%;transform:translateX(-50%)}
.bar{position:absolute;left:8px;bottom:8px;border:1.5px solid #fff;border-top:0;height:7px;color:#fff;
font:600 11px/1 system-ui,sans-serif;text-indent:3px;text-shadow:0 0 3px #000,0 0 2px #000;white-space:nowrap}
.bar{padding:0;line-height:0}
figcaption{font-size:.85rem;margin-top:.3rem}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.3rem 1.3rem;padding:0;margin:.9rem 0 0}
.chip{display:inline-block;width:.85em;height:.85em;border-radius:3px;margin-right:.45em;vertical-align:-.06em}
article+article{border-top:1px solid var(--edge);margin-top:1rem;padding-top:.3rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.93rem}
th,td{text-align:left;padding:.38rem .7rem;border-bottom:1px solid var(--edge);vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:.85rem}
thead th{white-space:nowrap}
td.n,th.n{text-align:right;white-space:nowrap}
td.name{white-space:nowrap}
tr.part td:first-child{padding-left:2rem}
tr.absent td{color:var(--soft)}
.facts{columns:2 420px;column-gap:1rem}
.facts section{break-inside:avoid}
.facts td{overflow-wrap:anywhere}.facts th{width:38%;font-weight:500}
code{font:.85em ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
ul.plain{margin:.2rem 0;padding-left:1.1rem}
footer{max-width:1290px;margin:0 auto;padding:0 1.4rem 2rem;color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
@media print{label[for=labels]{display:none}
:root{color-scheme:light;--ink:#000;--soft:#444;--page:#fff;--card:#fff;--edge:#bbb;--alert:#900;
--alertbg:#fff;--warn:#640;--warnbg:#fff;--ruo:#900;--ruobg:#fff}
.ruo{position:static;border:2px solid var(--ruo)}
section,.box{break-inside:auto;border-radius:0}article,figure,tr{break-inside:avoid}
.frame,.chip{-webkit-print-color-adjust:exact;print-color-adjust:exact}
.row{flex-wrap:nowrap}body{font-size:12px}main{padding:.5rem 0}}
"""
